"""What `scripts/bench_quality.py` measures: inputs and weights, recipes, and a real model."""
