"""A small tokenizer in both file formats: bytes, three merges, and the special tokens of Eagle's."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", "<img>", "</img>"]
MERGES = [("h", "e"), ("Ġ", "he"), ("1", "2")]


def vocabulary() -> dict[str, int]:
    """All bytes in the library's own order, then the merged tokens."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
    return {token: number for number, token in enumerate(tokens)}


def write_vocabulary(folder: Path, special: list[str] = SPECIAL) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json, as Qwen2's tokenizer is published."""
    words = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in MERGES) + "\n"
    )
    added = {str(len(words) + i): {"content": token, "special": True} for i, token in enumerate(special)}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))


def write_tokenizer_json(folder: Path) -> None:
    """Write the same as tokenizer.json."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary(), merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
