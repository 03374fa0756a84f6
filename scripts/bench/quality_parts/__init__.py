"""What `scripts/bench/quality.py` measures: inputs and weights, recipes, and a real model."""
