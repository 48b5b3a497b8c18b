"""Discriminators: images to logits of being real."""
