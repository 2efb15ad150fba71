"""The steps after the pictures are generated: commits, the live table, reports, checks of a store."""
