"""Training methods, one a file: a Config and train(config, run)."""
