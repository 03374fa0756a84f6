"""Robots and benchmarks driven by this project."""
