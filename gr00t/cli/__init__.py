"""The commands: one module each, whose `main` a script and an installed command call."""
