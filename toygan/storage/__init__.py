"""A small protocol for stores of objects, and its implementations: a local folder, a bucket, memory."""
