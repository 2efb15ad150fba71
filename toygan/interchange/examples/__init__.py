"""Example scripts that are copied beside exported models; none imports torch or toygan."""
