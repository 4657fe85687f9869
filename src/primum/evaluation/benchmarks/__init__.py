"""The catalogue of benchmarks: one a file. Acceptance sets are read for the final numbers, never tuned on."""
