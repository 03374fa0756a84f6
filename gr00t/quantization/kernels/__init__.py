"""Accumulators: int8 codes in, exact int32 sums out. Each answers the same question; `reference` is the
oracle.
"""
