"""The import path of Isaac-GR00T N1.5 for the last transform: `gr00t.model.preprocessing.gr00t_transform`."""

from __future__ import annotations

from gr00t.model.preprocessing.gr00t_transform import (
    MAX_TEXT_TOKENS,
    PROMPT_STYLES,
    GR00TTransform,
    Tokenizer,
    chat_prompt,
)

__all__ = [
    "MAX_TEXT_TOKENS",
    "PROMPT_STYLES",
    "GR00TTransform",
    "Tokenizer",
    "chat_prompt",
]
