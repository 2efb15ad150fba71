"""Catalogs in the formats that shops have, read into the one contract."""
