"""Parts of `scripts/bench/policy.py`."""
