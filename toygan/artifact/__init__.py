"""A trained model on disk: its files, its config, and everything that it is loaded from."""
