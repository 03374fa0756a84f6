"""A policy plays, the expert takes over at some steps, what it does becomes demonstrations (DAgger)."""
