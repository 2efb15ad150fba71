"""Finds model versions: those in a store, their aliases, and the bundled models."""
