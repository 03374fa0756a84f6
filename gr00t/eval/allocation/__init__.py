"""Bits where they matter: how many each layer gets, by what its rounding does to a policy's actions."""
