"""Everything after the pictures are generated: commits, the live table, the report, checks of a store."""
