"""Turns photos into training batches."""
