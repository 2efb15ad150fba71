"""Photos that people upload into a store: checked, indexed, and counted until a training is worth it."""
