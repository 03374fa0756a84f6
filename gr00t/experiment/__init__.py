"""Data configurations: which keys a robot sends and how they become the model's input."""
