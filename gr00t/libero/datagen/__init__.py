"""Data for training, made by the simulator: demonstrations, and scenes with labels."""
