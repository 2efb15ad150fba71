"""Retrains the champion on new photos: trains a challenger, measures both, and decides on a promotion."""
