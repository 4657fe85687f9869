"""Records to checkpoint: examples, batches, one scoring function, pure losses, one loop, methods."""
