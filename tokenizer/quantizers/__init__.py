"""Quantizers: latents to indices and back. One paper per file."""
