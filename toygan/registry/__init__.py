"""Model versions in a store, their aliases, and the bundled models."""
