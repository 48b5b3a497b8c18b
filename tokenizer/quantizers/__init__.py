"""Quantizers: latents to indices and back. One paper a file."""
