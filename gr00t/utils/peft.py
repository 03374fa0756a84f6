"""LoRA is part of training here; N1.5's function of this module says where."""

from __future__ import annotations

from gr00t.data.reference_names import missing_names

__getattr__ = missing_names(__name__, {"get_lora_model": "scripts/gr00t_finetune.py --lora-rank RANK"})
