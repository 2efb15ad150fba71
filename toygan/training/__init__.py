"""Adversarial training: losses, the loop, checkpoints."""
