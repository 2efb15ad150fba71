"""A small protocol for objects in a local folder, a bucket or memory, and its implementations."""
