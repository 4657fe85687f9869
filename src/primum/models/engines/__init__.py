"""Engines turn messages into replies. One engine a file."""
