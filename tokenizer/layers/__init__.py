"""Layers shared by backbones, discriminators and generators, one concept per file."""
