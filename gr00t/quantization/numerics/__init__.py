"""Arithmetic on tensors, without modules: codes, scales, rotations, statistics."""
