"""Discriminators: images to logits of "real"."""
