"""Parts of scripts/bench_policy.py."""
