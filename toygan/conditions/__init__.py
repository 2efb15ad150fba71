"""Turns product rows into tensors that a generator is conditioned on."""
