"""Training GR00T N1.5: losses, steps, checkpoints of a run. Knows no robot and no simulator."""
