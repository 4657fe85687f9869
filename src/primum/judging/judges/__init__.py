"""Judges, one a file: about, revision, gold, judge(exchanges)."""
