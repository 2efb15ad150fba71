"""Checks, indexes and counts the photos that people upload into a store."""
