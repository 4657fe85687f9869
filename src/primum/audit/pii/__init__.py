"""Personal information by patterns, check digits and context. Values are never kept: only type, start and end."""
