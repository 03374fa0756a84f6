"""Checkpoints and observations from a random generator: to try programs, not policies."""
