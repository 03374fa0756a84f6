"""LIBERO: data configuration and evaluation."""
