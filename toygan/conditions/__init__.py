"""Product rows become tensors that a generator is conditioned on."""
