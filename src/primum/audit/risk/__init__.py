"""Fine-tuning rows that look harmless and move a model away from refusing: rules, a representation score, dropping."""
