"""From new photos to a new champion: trains a challenger, measures both, and decides on a promotion."""
