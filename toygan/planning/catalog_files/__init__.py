"""Converts catalogs from the formats of shops to the one contract."""
