"""Addresses that only this machine can reach."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts as they stand in `--host` and in a parsed web address."""
