"""Encoder and decoder pairs."""
