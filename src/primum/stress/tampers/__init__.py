"""The catalogue of tampers: one way to undo safety a file (docs/architecture.md, section 2)."""
