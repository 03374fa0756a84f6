"""What a GR00T N1.7 checkpoint says about its own architecture, typed.

Its config.json is flat and may lack keys; NVIDIA's code has defaults for them, which hold here, too, and are
told. Some of them are not those of NVIDIA's own checkpoints, which name theirs. Vision tower and language
model are not described at all: they are those of the model that `model_name` names, of which one is known
here. A backbone_config.json in the folder, that model's own config.json, counts before it.

A value that would change the computation and that is not implemented here is refused by name. Neither torch
nor transformers is imported.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from gr00t.model.checkpoint.architecture import Architecture
from gr00t.model.checkpoint.config_parts import ActionHeadConfig, TransformerConfig
from gr00t.model.checkpoint.families import N1_7, Family
from gr00t.model.checkpoint.folder_kind import CONFIG_FILE
from gr00t.model.checkpoint.json_section import CheckpointError, Section, is_there, read_json
from gr00t.model.checkpoint.n1d7.backbone_config import DecoderConfig, VisionTowerConfig

BACKBONE_FILE = "backbone_config.json"
FULL_SIZE = Path(__file__).parents[1] / "architectures" / "gr00t_n1d7"
_KNOWN_BACKBONE = "nvidia/Cosmos-Reason2-2B"

# Of NVIDIA's code (Isaac-GR00T, commit efc65230), for what a config.json does not say.
DEFAULTS: dict[str, Any] = {
    "model_name": _KNOWN_BACKBONE,
    "backbone_embedding_dim": 2048,
    "select_layer": 12,
    "max_state_dim": 132,
    "max_action_dim": 132,
    "action_horizon": 40,
    "hidden_size": 1024,
    "input_embedding_dim": 1536,
    "state_history_length": 1,
    "add_pos_embed": True,
    "use_vlln": True,
    "max_seq_len": 1024,
    "use_alternate_vl_dit": True,
    "attend_text_every_n_blocks": 2,
    "diffusion_model_cfg": {
        "positional_embeddings": None,
        "num_layers": 16,
        "num_attention_heads": 32,
        "attention_head_dim": 48,
        "norm_type": "ada_norm",
        "output_dim": 1024,
        "interleave_self_attention": True,
    },
    "vl_self_attention_cfg": None,
    "num_inference_timesteps": 4,
    "num_timestep_buckets": 1000,
    "max_num_embodiments": 32,
}
# Where nvidia/GR00T-N1.7-3B has another value than the code assumes.
_REAL = {"select_layer": "16", "diffusion_model_cfg": "32 layers", "vl_self_attention_cfg": "4 layers"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gr00tN1d7Config(Architecture):
    """The whole architecture. Built from JSON only, so that what is saved is what was read.

    `adapter` is None where the checkpoint has none; `assumed` has what its config.json did not say.
    """

    family: ClassVar[Family] = N1_7

    vision: VisionTowerConfig
    language: DecoderConfig
    adapter: TransformerConfig | None
    action_head: ActionHeadConfig
    image_token_id: int
    assumed: tuple[str, ...] = field(repr=False, compare=False)
    source: dict[str, dict[str, Any]] = field(repr=False, compare=False)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Gr00tN1d7Config:
        """Read `config.json` and, where there is one, `backbone_config.json` of a checkpoint folder.

        Raises:
            CheckpointError: a file is absent or not JSON, or it asks for something not implemented.
        """
        main, backbone = Path(folder, CONFIG_FILE), Path(folder, BACKBONE_FILE)
        values = read_json(main)
        own = is_there(backbone)
        if not own:
            name = Section(str(main), DEFAULTS | values).text("model_name")
            if name.rpartition("/")[2].lower() != _KNOWN_BACKBONE.rpartition("/")[2].lower():
                raise CheckpointError(
                    f"{main}: model_name = {json.dumps(name)}: its vision tower and language model are not "
                    f"known here; known: {_KNOWN_BACKBONE}; copy that model's {CONFIG_FILE} into {folder} as "
                    f"{BACKBONE_FILE}"
                )
            backbone = FULL_SIZE / BACKBONE_FILE
        config = cls._from_sections(Section(str(main), values), Section(str(backbone), read_json(backbone)))
        if config.assumed:
            logger.info(
                "%s does not say all; assumed, as NVIDIA's code does: %s", main, "; ".join(config.assumed)
            )
        if not own:
            logger.info("Vision tower and language model: those of %s, which are built in", _KNOWN_BACKBONE)
        return config

    @classmethod
    def from_json_files(cls, files: dict[str, dict[str, Any]]) -> Gr00tN1d7Config:
        """Build from `{"config.json": ..., "backbone_config.json": ...}`, as `to_json_files` returns it.

        Raises:
            CheckpointError: a value is missing, of the wrong type, contradictory or not implemented.
        """
        files = copy.deepcopy(files)
        return cls._from_sections(*(Section(name, files[name]) for name in (CONFIG_FILE, BACKBONE_FILE)))

    @classmethod
    def full_size(cls) -> Gr00tN1d7Config:
        """The architecture of nvidia/GR00T-N1.7-3B, which ships with this package."""
        files = {name: read_json(FULL_SIZE / name) for name in (CONFIG_FILE, BACKBONE_FILE)}
        return cls.from_json_files(files)

    @classmethod
    def _from_sections(cls, given: Section, backbone: Section) -> Gr00tN1d7Config:
        given.one_of("model_type", (N1_7.model_type,))
        main = Section(given.file, copy.deepcopy(DEFAULTS) | given.values)
        main.one_of("backbone_model_type", ("qwen",), "qwen")
        for key in ("reproject_vision", "strict_action_padding_mask"):
            main.one_of(key, (False,), False)
        backbone.one_of("model_type", ("qwen3_vl",), "qwen3_vl")

        vision = VisionTowerConfig.from_json(backbone.section("vision_config"))
        language = DecoderConfig.from_json(backbone.section("text_config"), main.integer("select_layer"))
        width = language.hidden_size
        if vision.out_size != width:
            raise backbone.error(
                "vision_config.out_hidden_size",
                f"= {vision.out_size}, but the language model is {width} wide",
            )
        main.agrees("backbone_embedding_dim", width, "the width of the language model")
        image_token = backbone.integer("image_token_id", 151655, at_least=0)
        if image_token >= language.vocab_size:
            raise backbone.error(
                "image_token_id", f"= {image_token} is outside the {language.vocab_size} tokens"
            )
        source = {CONFIG_FILE: given.values, BACKBONE_FILE: backbone.values}
        adapter, head = _adapter(main, width), _action_head(main, width)
        return cls(vision, language, adapter, head, image_token, tuple(_assumed(given)), source)

    def to_json_files(self) -> dict[str, dict[str, Any]]:
        """The JSON objects this was built from, `{"config.json": ..., "backbone_config.json": ...}`."""
        return copy.deepcopy(self.source)

    def files_beside(self, dtype: str) -> dict[str, dict[str, Any]]:
        """Both files; config.json says the dtype."""
        files = self.to_json_files()
        files[CONFIG_FILE]["dtype"] = dtype
        return files

    def told_by(self, has_file: Callable[[str], bool]) -> str:
        """Both files, and what the first does not say."""
        second = BACKBONE_FILE if has_file(BACKBONE_FILE) else f"the built-in {BACKBONE_FILE}"
        assumed = f", with what it does not say: {'; '.join(self.assumed)}" if self.assumed else ""
        return f"{CONFIG_FILE} and {second}{assumed}"

    @property
    def action_dim(self) -> int:
        """A: length of one action vector, padding included."""
        return self.action_head.action_dim

    @property
    def action_horizon(self) -> int:
        """H: actions in one chunk."""
        return self.action_head.action_horizon

    @property
    def max_state_dim(self) -> int:
        """Length to which a robot's state is padded."""
        return self.action_head.max_state_dim

    @property
    def state_history(self) -> int:
        """Time steps of the state that the model sees."""
        return self.action_head.state_history or 1

    @property
    def num_embodiments(self) -> int:
        """How many embodiments have encoder and decoder weights of their own."""
        return self.action_head.num_embodiments

    @property
    def num_inference_timesteps(self) -> int:
        """Denoising steps the checkpoint asks for."""
        return self.action_head.num_inference_timesteps

    @property
    def vocab_size(self) -> int:
        """Rows of the language model's embedding."""
        return self.language.vocab_size


def _adapter(main: Section, width: int) -> TransformerConfig | None:
    """LayerNorm and self-attention, either of which may be absent."""
    has_norm = main.flag("use_vlln", True)
    stack = TransformerConfig(0, 1, width, "gelu-approximate", attention_bias=True)
    if main.values["vl_self_attention_cfg"]:
        section = main.section("vl_self_attention_cfg")
        if section.integer("num_layers", 0, at_least=0):
            stack = TransformerConfig.adapter_from_json(section)
    if stack.width != width:
        raise main.error(
            "vl_self_attention_cfg", f"is {stack.width} wide (heads x head size), the backbone {width}"
        )
    return replace(stack, input_norm=has_norm) if has_norm or stack.num_layers else None


def _action_head(main: Section, width: int) -> ActionHeadConfig:
    section = main.section("diffusion_model_cfg")
    dit = TransformerConfig.dit_from_json(section)
    section.agrees("cross_attention_dim", width, "the width of the backbone")
    text_every = None
    if main.flag("use_alternate_vl_dit", True):
        text_every = main.integer("attend_text_every_n_blocks")
        section.one_of("interleave_self_attention", (True,), False)
    dit = replace(dit, context_dim=width, text_every=text_every)
    hidden_size, horizon = main.integer("hidden_size"), main.integer("action_horizon")
    if section.integer("output_dim", 26) != hidden_size:
        raise section.error("output_dim", f"must be {hidden_size}, the hidden_size that the decoder reads")
    if main.integer("input_embedding_dim") != dit.width:
        raise main.error("input_embedding_dim", f"must be {dit.width}, heads x head size of the DiT")
    max_seq_len = main.integer("max_seq_len") if main.flag("add_pos_embed", True) else None
    if max_seq_len is not None and horizon > max_seq_len:
        raise main.error("action_horizon", f"= {horizon} exceeds the {max_seq_len} positions of max_seq_len")
    return ActionHeadConfig(
        dit=dit,
        hidden_size=hidden_size,
        action_dim=main.integer("max_action_dim"),
        action_horizon=horizon,
        max_state_dim=main.integer("max_state_dim"),
        num_embodiments=main.integer("max_num_embodiments"),
        num_future_tokens=0,
        num_timestep_buckets=main.integer("num_timestep_buckets"),
        num_inference_timesteps=main.integer("num_inference_timesteps"),
        max_seq_len=max_seq_len,
        state_history=main.integer("state_history_length"),
    )


def _assumed(given: Section) -> list[str]:
    """What the code's defaults say in place of a file, in words."""
    told = []
    for key, value in DEFAULTS.items():
        if key not in given.values:
            shown = f"{value['num_layers']} layers" if isinstance(value, dict) else json.dumps(value)
            real = f" (nvidia/GR00T-N1.7-3B has {_REAL[key]})" if key in _REAL else ""
            told.append(f"{key} {shown}{real}")
    return told
