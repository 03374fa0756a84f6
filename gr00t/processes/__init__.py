"""Processes that end when they should: with their parent, at a signal, or when nobody wants them any more."""
