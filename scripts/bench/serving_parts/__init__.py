"""Parts of `scripts/bench/serving.py`."""
