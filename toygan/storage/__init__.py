"""One small protocol for objects in a local folder, a bucket or memory."""
