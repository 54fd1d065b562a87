"""Recordings in: columnar MCAP reading, message schemas old and new, index, split."""
