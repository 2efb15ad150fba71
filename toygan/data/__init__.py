"""Photos become training batches."""
