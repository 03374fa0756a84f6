"""What NVIDIA's N1.5 preprocessing made of three random observations, and a tokenizer that knows only its
prompts.

`golden/parity/pre_*.json` and `.npz` were recorded from the reference with the LIBERO data configuration.
The real tokenizer's files are not in this repository; the recorded ids of the recorded prompts stand in for
it, so a prompt that differs by one character from the reference's is an error here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.experiment.data_config import load_data_config
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform
from tests.shell import REPO

PARITY = REPO / "tests" / "golden" / "parity"
SETS = sorted(PARITY.glob("pre_*.json"))
INSTRUCTION = "annotation.human.action.task_description"
IMAGES = "<IMG_CONTEXT>*256"


class RecordedTokenizer:
    """The recorded ids of the recorded prompts, and an error for every other prompt."""

    def __init__(self, ids: dict[str, list[int]], special: dict[str, int], length: int) -> None:
        self.ids = ids
        self.image_token_id = special["<IMG_CONTEXT>"]
        self.pad_token_id = special["<|endoftext|>"]
        self.length = length

    def __len__(self) -> int:
        return self.length

    def encode(self, text: str) -> list[int]:
        short = text.replace("<IMG_CONTEXT>" * 256, IMAGES)
        assert short in self.ids, f"not the reference's prompt: {short}"
        return self.ids[short]


@dataclass(frozen=True)
class Recorded:
    """One set: its description and its arrays."""

    info: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def load(cls, path: Path) -> Recorded:
        with np.load(path.with_suffix(".npz")) as arrays:
            return cls(json.loads(path.read_text()), dict(arrays))

    def metadata(self, resolution: tuple[int, int] | None = None) -> DatasetMetadata:
        metadata = DatasetMetadata.model_validate(self.info["metadata_json"]["new_embodiment"])
        for video in metadata.modalities.video.values():
            video.resolution = resolution or video.resolution
        return metadata

    def tokenizer(self) -> RecordedTokenizer:
        ids = {}
        for name, texts in self.info["expanded_text"].items():
            rows = self.arrays[f"{name}/eagle_input_ids"]
            masks = self.arrays[f"{name}/eagle_attention_mask"].astype(bool)
            ids.update({text: row[mask].tolist() for text, row, mask in zip(texts, rows, masks, strict=True)})
        return RecordedTokenizer(ids, self.info["special_ids"], self.info["len_tokenizer"])

    def observation(self, sample: int | None = None, dtype: type = np.float64) -> dict[str, Any]:
        """Sample 0, 1 or 2, or all three as a batch; without the instruction."""
        found = {}
        for name, array in self.arrays.items():
            if name.startswith("in/") and not name.endswith("normalized_action"):
                key = name.removeprefix("in/")
                value = array if sample is None else array[sample]
                found[key] = value.astype(dtype) if key.startswith("state.") else value
        return found

    def single(self, sample: int = 0, dtype: type = np.float64) -> dict[str, Any]:
        """One observation as a client sends it."""
        return {**self.observation(sample, dtype), INSTRUCTION: [self.info["prompts"][sample]]}

    def pixels(self, name: str) -> np.ndarray:
        """The reference's frames (B*V, 3, H, W) uint8; those that repeat another case's are not stored."""
        if name.startswith("batch3"):
            return np.concatenate([self.arrays[f"single{i}_f64/pixels_uint8"] for i in range(3)])
        stored = name if f"{name}/pixels_uint8" in self.arrays else "single0_f64"
        return self.arrays[f"{stored}/pixels_uint8"]


def libero_config(kind: str = "LiberoDataConfig") -> Any:
    return load_data_config(f"examples.Libero.custom_data_config:{kind}")


def bound_pipeline(
    recorded: Recorded,
    kind: str = "LiberoDataConfig",
    metadata: DatasetMetadata | None = None,
    prompt_style: str = "brackets",
) -> ComposedModalityTransform:
    """The LIBERO pipeline as a policy prepares it."""
    pipeline = libero_config(kind).transform()
    pipeline.eval()
    pipeline.set_metadata(metadata or recorded.metadata())
    last = pipeline.transforms[-1]
    assert isinstance(last, GR00TTransform)
    last.bind(
        recorded.tokenizer(),
        image_size=224,
        tokens_per_image=256,
        image_token_index=recorded.info["special_ids"]["<IMG_CONTEXT>"],
        vocab_size=recorded.info["len_tokenizer"],
        prompt_style=prompt_style,
    )
    return pipeline
