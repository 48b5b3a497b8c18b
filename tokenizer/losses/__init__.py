"""Losses: pure functions of tensors, unweighted. Weights live in the configuration."""
