"""Where objects come to rest from LIBERO's initial states, which tells one MuJoCo from another."""
