"""Losses: pure functions of tensors, unweighted. Weights are in the configuration."""
