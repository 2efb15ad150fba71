"""Generates the pictures of a frozen plan, scores, postprocesses and publishes them."""
