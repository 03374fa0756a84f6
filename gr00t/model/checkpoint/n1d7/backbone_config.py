"""Qwen3-VL's vision tower and language model as frozen facts, beside the rules of reading them from JSON.

Keys that are absent take the defaults of transformers 4.57, with which NVIDIA made its checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gr00t.model.checkpoint.json_section import Section

_VISION_THETA = 10000.0  # fixed there


@dataclass(frozen=True)
class VisionTowerConfig:
    """A vision transformer over images of any size, in patches of `patch_size`.

    `merge_size` x `merge_size` patches become one token of `out_size`; so do those after the layers `taps`,
    for the language model's first layers. `num_positions` is the number of learned positions, a square.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_channels: int
    patch_size: int
    temporal_patch_size: int
    merge_size: int
    num_positions: int
    out_size: int
    activation: str
    rope_theta: float
    taps: tuple[int, ...]

    @classmethod
    def from_json(cls, section: Section) -> VisionTowerConfig:
        """Read `vision_config`."""
        section.one_of("model_type", ("qwen3_vl", "qwen3_vl_vision"), "qwen3_vl")
        hidden_size, num_heads = section.integer("hidden_size", 1152), section.integer("num_heads", 16)
        if hidden_size % (4 * num_heads):
            raise section.error(
                "hidden_size",
                f"= {hidden_size} makes no rotary positions in rows and columns with {num_heads} heads",
            )
        num_positions = section.integer("num_position_embeddings", 2304)
        if math.isqrt(num_positions) ** 2 != num_positions:
            raise section.error("num_position_embeddings", f"= {num_positions} is no square")
        return cls(
            hidden_size=hidden_size,
            intermediate_size=section.integer("intermediate_size", 4304),
            num_layers=section.integer("depth", 27),
            num_heads=num_heads,
            num_channels=section.integer("in_channels", 3),
            patch_size=section.integer("patch_size", 16),
            temporal_patch_size=section.integer("temporal_patch_size", 2),
            merge_size=section.integer("spatial_merge_size", 2),
            num_positions=num_positions,
            out_size=section.integer("out_hidden_size", 3584),
            activation=section.one_of("hidden_act", ("gelu_pytorch_tanh", "gelu"), "gelu_pytorch_tanh"),
            rope_theta=_rope(section, "axial").positive("rope_theta", _VISION_THETA),
            taps=_whole_numbers(section, "deepstack_visual_indexes", (8, 16, 24)),
        )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def patch_values(self) -> int:
        """How many numbers one patch has: channels, frames, rows and columns of pixels."""
        return self.num_channels * self.temporal_patch_size * self.patch_size**2


@dataclass(frozen=True)
class DecoderConfig:
    """Qwen3-VL's decoder, of which only the first `num_layers` layers exist.

    `mrope_section` says how many of the rotary frequencies are for time, for rows and for columns.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, ...]
    attention_bias: bool

    @classmethod
    def from_json(cls, section: Section, num_layers: int) -> DecoderConfig:
        """Read `text_config`; `num_layers` is the `select_layer` of config.json."""
        section.one_of("model_type", ("qwen3_vl_text",), "qwen3_vl_text")
        section.one_of("hidden_act", ("silu",), "silu")
        available = section.integer("num_hidden_layers", 32)
        if num_layers > available:
            raise section.error("num_hidden_layers", f"= {available}, but select_layer asks for {num_layers}")
        rope = _rope(section, "default")
        rope.one_of("mrope_interleaved", (True,), True)
        head_dim = section.integer("head_dim", 128)
        frequencies = _whole_numbers(rope, "mrope_section", (24, 20, 20))
        if len(frequencies) != 3:
            raise rope.error("mrope_section", f"must be three numbers, got {list(frequencies)}")
        num_heads = section.integer("num_attention_heads", 32)
        key_value_heads = section.integer("num_key_value_heads", 32)
        if num_heads % key_value_heads:
            raise section.error(
                "num_key_value_heads", f"= {key_value_heads} does not divide {num_heads} heads"
            )
        return cls(
            vocab_size=section.integer("vocab_size", 151936),
            hidden_size=section.integer("hidden_size", 4096),
            intermediate_size=section.integer("intermediate_size", 22016),
            num_layers=num_layers,
            num_heads=num_heads,
            num_key_value_heads=key_value_heads,
            head_dim=head_dim,
            rms_norm_eps=section.positive("rms_norm_eps", 1e-6),
            rope_theta=rope.positive("rope_theta", section.positive("rope_theta", 5_000_000.0)),
            mrope_section=frequencies,
            attention_bias=section.flag("attention_bias", False),
        )


def _rope(section: Section, kind: str) -> Section:
    """The rotary settings, where they are an object of their own; transformers 4 and 5 differ in its name."""
    for key in ("rope_parameters", "rope_scaling"):
        if section.values.get(key) is not None:
            rope = section.section(key)
            rope.one_of("rope_type", (kind,), kind)
            return rope
    return Section(section.file, {}, section.path)


def _whole_numbers(section: Section, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """A list of whole numbers from 0."""
    found = section.values.get(key, list(default))
    if not isinstance(found, list) or not all(type(number) is int and number >= 0 for number in found):
        raise section.error(key, f"must be a list of whole numbers, got {found!r}")
    return tuple(found)
