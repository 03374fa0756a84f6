"""Finding activation scales by what layers are called with."""
