"""The table between our module names and those of NVIDIA's checkpoints, one per family.

Our names say what a module is; a checkpoint keeps NVIDIA's, which say how it once was built. A row
translates a module and everything below it, `#` stands for a layer's number, and no name matches two rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_BLOCK = (
    ("attn_norm", "norm1"),
    ("attn.q_proj", "attn1.to_q"),
    ("attn.k_proj", "attn1.to_k"),
    ("attn.v_proj", "attn1.to_v"),
    ("attn.o_proj", "attn1.to_out.0"),
    ("mlp_norm", "norm3"),
    ("mlp.up_proj", "ff.net.0.proj"),
    ("mlp.down_proj", "ff.net.2"),
)
_EMBODIMENT = (
    ("state_encoder.layer1", "state_encoder.layer1"),
    ("state_encoder.layer2", "state_encoder.layer2"),
    ("action_encoder.layer1", "action_encoder.W1"),
    ("action_encoder.layer2", "action_encoder.W2"),
    ("action_encoder.layer3", "action_encoder.W3"),
    ("action_decoder.layer1", "action_decoder.layer1"),
    ("action_decoder.layer2", "action_decoder.layer2"),
)
# Adapter and action head are the same modules in every family.
HEAD = (
    ("adapter.norm", "action_head.vlln"),
    *(
        (f"adapter.layers.#.{a}", f"action_head.vl_self_attention.transformer_blocks.#.{b}")
        for a, b in _BLOCK
    ),
    *((f"action_head.{a}.weight", f"action_head.{b}.W") for a, b in _EMBODIMENT),
    *((f"action_head.{a}.bias", f"action_head.{b}.b") for a, b in _EMBODIMENT),
    ("action_head.position_embedding", "action_head.position_embedding.weight"),
    ("action_head.time_encoder", "action_head.model.timestep_encoder.timestep_embedder"),
    *((f"action_head.layers.#.{a}", f"action_head.model.transformer_blocks.#.{b}") for a, b in _BLOCK),
    ("action_head.out_norm.linear", "action_head.model.proj_out_1"),
    ("action_head.out_proj", "action_head.model.proj_out_2"),
)
# What some programs save beside the weights: numbers that follow from the architecture, or count batches.
_DERIVED = (
    "position_ids",
    "inv_freq",
    "original_inv_freq",
    "num_batches_tracked",
    "cos_cached",
    "sin_cached",
)


class NameTable:
    """The rows of one family.

    Attributes:
        rows: our name and NVIDIA's.
        unused: how the names begin of what is in NVIDIA's checkpoints, but without effect on any action:
            never built, dropped on load, absent where we save.
    """

    def __init__(self, rows: Sequence[tuple[str, str]], unused: tuple[str, ...]) -> None:
        self.rows = tuple(rows)
        self.unused = unused
        self._from_ours = _rules(self.rows)
        self._from_theirs = _rules([(theirs, ours) for ours, theirs in self.rows])

    def to_checkpoint(self, name: str) -> str | None:
        """NVIDIA's name for one of our modules or parameters; None where the table has no row for it."""
        return _translate(name, self._from_ours)

    def from_checkpoint(self, name: str) -> str | None:
        """Our name for one of NVIDIA's; None where the table has no row for it."""
        return _translate(name, self._from_theirs)

    def is_unused(self, checkpoint_name: str) -> bool:
        """Whether a tensor of a checkpoint is known and without effect on any action."""
        return checkpoint_name.startswith(self.unused)


def is_derived(checkpoint_name: str) -> bool:
    """Whether a tensor holds what every program computes anew, and so need not be read."""
    return checkpoint_name.rpartition(".")[2] in _DERIVED


def _rules(rows: Sequence[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    """Rows as regular expressions that match whole dotted parts, with the text to put in place."""
    return [
        (re.compile(re.escape(a).replace(r"\#", r"(\d+)") + r"(?=\.|$)"), b.replace("#", r"\g<1>"))
        for a, b in rows
    ]


def _translate(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, replacement in rules:
        match = pattern.match(name)
        if match:
            return match.expand(replacement) + name[match.end() :]
    return None


N1_5_NAMES = NameTable(
    (
        ("backbone.vision", "backbone.eagle_model.vision_model.vision_model"),
        ("backbone.connector", "backbone.eagle_model.mlp1.0"),
        ("backbone.language_model", "backbone.eagle_model.language_model.model"),
        ("backbone.projector", "backbone.eagle_linear"),
        *HEAD,
        ("action_head.future_tokens", "action_head.future_tokens.weight"),
    ),
    unused=(
        "backbone.eagle_model.vision_model.vision_model.head.",
        "backbone.eagle_model.language_model.lm_head.",
    ),
)
N1_7_NAMES = NameTable(
    (
        ("backbone.vision", "backbone.model.model.visual"),
        ("backbone.language_model", "backbone.model.model.language_model"),
        *HEAD,
    ),
    # The embedding once more: NVIDIA's own save drops it, too.
    unused=("backbone.model.lm_head.",),
)
