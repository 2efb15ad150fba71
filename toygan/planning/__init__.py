"""Plans a run: reads the catalog, compares it with the live pictures and distributes slots over shards."""
