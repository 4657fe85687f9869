"""Prompts: where they come from, which are the same, which leak from a benchmark, and which are kept for testing."""
