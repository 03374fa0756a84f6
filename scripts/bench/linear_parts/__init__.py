"""Parts of `scripts/bench/linear.py`."""
