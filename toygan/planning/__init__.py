"""What a run will do: the catalog is read, matched against what is live and laid into shards."""
