"""Parts of scripts/train.py and scripts/gr00t_finetune.py."""
