"""The catalogue of weight-space repairs: one method a file (docs/architecture.md, section 2)."""
