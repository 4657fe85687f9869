"""From facts (one plain JSON dict) to a page, a model card and an evidence file; runs nothing and measures nothing."""
