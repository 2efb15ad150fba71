"""Measures the pictures of a model against photos that were not used for training."""
