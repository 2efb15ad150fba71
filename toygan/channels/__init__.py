"""Exports live pictures to marketplaces, web shops and social networks, each with its own rules."""
