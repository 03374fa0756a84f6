"""Parts of scripts/inspect_dataset.py."""
