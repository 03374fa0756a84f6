"""What a GR00T N1.5 checkpoint says about its own architecture, typed.

`config.json` describes the action head; `eagle_config.json` the vision tower and the language model.
NVIDIA's checkpoints carry only the first (the second is part of NVIDIA's code), so the built-in full-size
one applies where a folder has none. A value that would change the computation and that is not implemented
here is refused by name: a model that silently computes something else is worse than none.

Neither torch nor transformers is imported: reading a configuration starts at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gr00t.model.checkpoint.architecture import Architecture
from gr00t.model.checkpoint.config_parts import (
    ActionHeadConfig,
    LanguageConfig,
    TransformerConfig,
    VisionConfig,
)
from gr00t.model.checkpoint.families import N1_5, Family
from gr00t.model.checkpoint.folder_kind import CONFIG_FILE, FolderKind, adapter_advice, recognize
from gr00t.model.checkpoint.groot_base import base_folder
from gr00t.model.checkpoint.json_section import CheckpointError, Section, is_there, read_json

EAGLE_FILE = "eagle_config.json"
FULL_SIZE = Path(__file__).parent / "architectures" / "gr00t_n1_5"

__all__ = ["CONFIG_FILE", "EAGLE_FILE", "CheckpointError", "Gr00tConfig"]


@dataclass(frozen=True)
class Gr00tConfig(Architecture):
    """The whole architecture. Built from JSON only, so that what is saved is what was read.

    `projector_dim` is None where the backbone's output is not projected, `adapter` where the checkpoint has
    none.
    """

    family: ClassVar[Family] = N1_5

    vision: VisionConfig
    language: LanguageConfig
    projector_dim: int | None
    adapter: TransformerConfig | None
    action_head: ActionHeadConfig
    image_token_index: int
    source: dict[str, dict[str, Any]] = field(repr=False, compare=False)

    @classmethod
    def from_folder(
        cls, folder: str | Path, base: str | Path | None = None, *, download: bool = True
    ) -> Gr00tConfig:
        """Read `config.json` and, where there is one, `eagle_config.json` of a checkpoint folder.

        Args:
            folder: of the checkpoint.
            base: of a policy of lerobot, whose architecture is that of what it was trained from: instead of
                what its folder names.
            download: what it was trained from may be fetched from the model hub.

        Raises:
            CheckpointError: it is no checkpoint (`folder_kind`), a file is absent or not JSON, or it asks for
                something not implemented.
        """
        folder = Path(folder)
        kind = recognize(folder)
        if kind is FolderKind.ADAPTER:
            raise CheckpointError(adapter_advice(folder))
        if kind is FolderKind.LEROBOT:
            found = base_folder(folder, base, download=download)
            return cls.full_size() if found is None else cls.from_folder(found, download=download)
        main, eagle = folder / CONFIG_FILE, folder / EAGLE_FILE
        if not is_there(eagle):
            eagle = FULL_SIZE / EAGLE_FILE
        return cls._from_sections(Section(str(main), read_json(main)), Section(str(eagle), read_json(eagle)))

    @classmethod
    def from_json_files(cls, files: dict[str, dict[str, Any]]) -> Gr00tConfig:
        """Build from `{"config.json": ..., "eagle_config.json": ...}`, as `to_json_files` returns it.

        Raises:
            CheckpointError: a value is missing, of the wrong type, contradictory or not implemented.
        """
        files = copy.deepcopy(files)
        return cls._from_sections(*(Section(name, files[name]) for name in (CONFIG_FILE, EAGLE_FILE)))

    @classmethod
    def full_size(cls) -> Gr00tConfig:
        """The architecture of nvidia/GR00T-N1.5-3B, which ships with this package."""
        return cls.from_folder(FULL_SIZE)

    @classmethod
    def _from_sections(cls, main: Section, eagle: Section) -> Gr00tConfig:
        main.one_of("model_type", (N1_5.model_type,), N1_5.model_type)
        backbone, head = main.section("backbone_cfg"), main.section("action_head_cfg")
        backbone.one_of("reproject_vision", (False,), False)
        eagle.one_of("use_pixel_shuffle", (False,), True)
        eagle.one_of("select_layer", (-1,), -4)
        eagle.one_of("mlp_connector_layers", (1,), 2)
        for key in ("use_backbone_lora", "use_llm_lora"):
            eagle.one_of(key, (0, None), 0)

        vision = VisionConfig.from_json(eagle.section("vision_config"))
        eagle.agrees("force_image_size", vision.image_size, "vision_config.image_size")
        language = LanguageConfig.from_json(eagle.section("text_config"), backbone.integer("select_layer"))
        image_token = eagle.integer("image_token_index", at_least=0)
        if image_token >= language.vocab_size:
            raise eagle.error(
                "image_token_index", f"= {image_token} is outside the {language.vocab_size} tokens"
            )

        # The reference projects to 1536 unless told otherwise; NVIDIA's own file says null, which is no
        # projection.
        projects = backbone.values.get("project_to_dim", 1536) is not None
        projector_dim = backbone.integer("project_to_dim", 1536) if projects else None
        width = projector_dim or language.hidden_size
        head.agrees("backbone_embedding_dim", width, "the width of the backbone's output")
        adapter = None
        if head.flag("use_vlln", True):
            adapter = TransformerConfig.adapter_from_json(head.section("vl_self_attention_cfg"))
            if adapter.width != width:
                raise head.error(
                    "vl_self_attention_cfg",
                    f"is {adapter.width} wide (heads x head size), the backbone {width}",
                )
        action_head = ActionHeadConfig.from_json(head, context_dim=width)
        main.agrees("action_dim", action_head.action_dim, "action_head_cfg.action_dim")
        main.agrees("action_horizon", action_head.action_horizon, "action_head_cfg.action_horizon")
        source = {CONFIG_FILE: main.values, EAGLE_FILE: eagle.values}
        return cls(vision, language, projector_dim, adapter, action_head, image_token, source)

    def to_json_files(self) -> dict[str, dict[str, Any]]:
        """The JSON objects this was built from, `{"config.json": ..., "eagle_config.json": ...}`."""
        return copy.deepcopy(self.source)

    def files_beside(self, dtype: str) -> dict[str, dict[str, Any]]:
        """Both files, which say the dtype."""
        return {file: {**values, "torch_dtype": dtype} for file, values in self.to_json_files().items()}

    def told_by(self, has_file: Callable[[str], bool]) -> str:
        """Both files."""
        return f"{CONFIG_FILE} and {EAGLE_FILE if has_file(EAGLE_FILE) else f'the built-in {EAGLE_FILE}'}"

    @property
    def backbone_width(self) -> int:
        """Width of the backbone's output, hence of the adapter and of what the DiT attends to."""
        return self.projector_dim or self.language.hidden_size

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
    def num_embodiments(self) -> int:
        """How many embodiments have encoder and decoder weights of their own."""
        return self.action_head.num_embodiments

    @property
    def num_inference_timesteps(self) -> int:
        """Denoising steps the checkpoint asks for."""
        return self.action_head.num_inference_timesteps

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.vision.image_size

    @property
    def tokens_per_image(self) -> int:
        """Tokens by which one image enters the language model."""
        return (self.vision.image_size // self.vision.patch_size) ** 2

    @property
    def vocab_size(self) -> int:
        """Rows of the language model's embedding."""
        return self.language.vocab_size
