"""How good the pictures of a model are, measured against photos that it never saw."""
