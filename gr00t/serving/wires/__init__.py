"""Bytes that stand for requests and answers: one file for each format, and what they share."""
