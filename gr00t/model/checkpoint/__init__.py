"""Checkpoint folders: what they are, what they say, and reading and writing their weights."""
