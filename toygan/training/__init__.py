"""Trains models adversarially: losses, the loop, checkpoints, recipes."""
