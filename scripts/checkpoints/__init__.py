"""Parts of scripts/inspect_checkpoint.py and scripts/export_quantized.py."""
