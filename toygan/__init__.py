"""Product pictures for toy shops, made by GANs in a batch pipeline."""
