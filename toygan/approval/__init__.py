"""Is a picture good enough to show: checks, calibrated score, decision."""
