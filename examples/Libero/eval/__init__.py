"""Evaluation of a served policy in LIBERO."""
