"""The last step before the model: images, prompt and state in the form in which GR00T N1.5 takes them.

A prompt is the Eagle chat template written out:

    <|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n<|im_start|>user\\n
    <image 1><img>...</img><image 2><img>...</img>TEXT<|im_end|>\\n<|im_start|>assistant\\n

where `...` is one image token per patch and `<image 1>` is ordinary text. Images are ordered by time, then
camera.

TEXT has two forms. Training used the plain instruction, but the reference's inference turns a request's
`[text]` into a numpy array and the template prints that, so that published results were obtained with
`['text']`. What was evaluated is the default here ("brackets"); a flat list of strings in a batched request
is plain in the reference and therefore here, and so is the standard instruction where there is none;
`prompt_style="plain"` always gives the plain form.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import Field, PositiveInt, PrivateAttr
from torch import Tensor
from torch.nn import functional as F

from gr00t.data.embodiment_tags import EMBODIMENT_TAG_MAPPING, EmbodimentTag
from gr00t.data.errors import MetadataError, ObservationError
from gr00t.data.instruction import is_instruction_key
from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.base import InvertibleModalityTransform
from gr00t.data.transform.parameters import ProbabilityOrOff
from gr00t.model.network.request import pad_left
from gr00t.model.preprocessing.tokenizer import IMAGE_TOKEN, TokenizerError
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)

PROMPT_STYLES = ("brackets", "plain")
# Of a prompt without its images. An instruction has some twenty; a thousand cost a forward of their own.
MAX_TEXT_TOKENS = 1_024


class Tokenizer(Protocol):
    """What a tokenizer must offer to build prompts."""

    image_token_id: int
    pad_token_id: int

    def __len__(self) -> int:
        """Number of tokens."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens recognised, nothing added."""


def chat_prompt(text: str, images: int, tokens_per_image: int) -> str:
    """Write out the chat template for one instruction and a number of images."""
    patches = IMAGE_TOKEN * tokens_per_image
    pictures = "".join(f"<image {i + 1}><img>{patches}</img>" for i in range(images))
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    return f"{system}<|im_start|>user\n{pictures}{text}<|im_end|>\n<|im_start|>assistant\n"


class GR00TTransform(InvertibleModalityTransform):
    """Joined video, state and instruction to the model's inputs, under NVIDIA's names.

    A data configuration constructs it with the sizes alone; the policy then binds it to the model and its
    tokenizer.
    """

    apply_to: list[str] = Field(default_factory=list, description="not used: it takes all that is there")
    formalize_language: bool = Field(default=False, description="lower case, no punctuation")
    embodiment_tag_mapping: dict[str, int] = Field(default_factory=lambda: dict(EMBODIMENT_TAG_MAPPING))
    language_dropout_prob: ProbabilityOrOff = Field(
        default=0.0, description="in training: the share of samples that get the default instruction"
    )
    default_instruction: str = Field(
        default="Perform the default behavior.", description="where there is none"
    )
    max_state_dim: PositiveInt
    max_action_dim: PositiveInt
    state_horizon: PositiveInt
    action_horizon: PositiveInt
    max_length: int = Field(default=512, description="not used, as in the reference: prompts are never cut")
    embodiment_tag: EmbodimentTag | None = None

    _tokenizer: Tokenizer | None = PrivateAttr(default=None)
    _tokens_per_image: int = PrivateAttr(default=0)
    _image_size: int = PrivateAttr(default=0)
    _prompt_style: str = PrivateAttr(default="brackets")
    _has_said_default: bool = PrivateAttr(default=False)

    def bind(
        self,
        tokenizer: Tokenizer,
        *,
        image_size: int,
        tokens_per_image: int,
        image_token_index: int,
        vocab_size: int,
        prompt_style: str = "brackets",
    ) -> None:
        """Tell the tokenizer and what the model's configuration says about images and tokens.

        Raises:
            TokenizerError: the tokenizer is not the model's: other image token, or more tokens than
                embeddings.
            ValueError: unknown prompt style.
        """
        if prompt_style not in PROMPT_STYLES:
            raise ValueError(f"prompt style {prompt_style!r}: {did_you_mean(prompt_style, PROMPT_STYLES)}")
        if tokenizer.image_token_id != image_token_index or len(tokenizer) > vocab_size:
            raise TokenizerError(
                f"the tokenizer does not belong to the model: its {len(tokenizer)} tokens have {IMAGE_TOKEN} "
                f"at {tokenizer.image_token_id}; the model embeds {vocab_size} tokens and expects images at "
                f"{image_token_index}"
            )
        self._tokenizer, self._prompt_style = tokenizer, prompt_style
        self._tokens_per_image, self._image_size = tokens_per_image, image_size

    def set_metadata(self, dataset_metadata: DatasetMetadata) -> None:
        """Take over the embodiment.

        Raises:
            MetadataError: the embodiment has no entry in `embodiment_tag_mapping`.
        """
        super().set_metadata(dataset_metadata)
        self.embodiment_tag = dataset_metadata.embodiment_tag
        if self.embodiment_tag.value not in self.embodiment_tag_mapping:
            raise MetadataError(f"embodiment_tag_mapping has no entry {self.embodiment_tag.value!r}")

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the model's inputs for one batch.

        Args:
            data: `video` (B, T, V, H, W, 3) uint8, `state` (B, S, A) and at most one instruction
                (`is_instruction_key`): B strings, or an array (B, 1) of strings. Without the dimension B a
                batch of one is returned, with a string or a list of one string as the instruction. In train
                mode also `action` (B, H, A), normalized.

        Returns:
            `state` (B, S, max_state_dim) in the dtype it came in, `state_mask` (same, bool), `embodiment_id`
            (B,) int64, `eagle_input_ids` and `eagle_attention_mask` (B, L) int64, padded on the left,
            `eagle_pixel_values` (B*T*V, 3, H, W) float32 in [-1, 1], `eagle_image_sizes` (B*T*V, 2) int64;
            in train mode also `action` and `action_mask` (B, H, max_action_dim).

        Raises:
            ObservationError: shapes or number of instructions do not fit, or an instruction is too long.
            RuntimeError: `bind` or `set_metadata` was not called.
        """
        if self._tokenizer is None or self.embodiment_tag is None:
            raise RuntimeError("GR00TTransform: call bind() and set_metadata() before applying the transform")
        frames = self._frames(data)
        batch = len(frames)
        texts = self._texts(data, batch, batched="video" in data and data["video"].ndim == 6)
        images = frames.shape[1]
        prompts = [chat_prompt(text, images, self._tokens_per_image) for text in texts]
        input_ids, attention_mask = self._tokenize(prompts, images * self._tokens_per_image)
        pixels = torch.from_numpy(frames).flatten(0, 1).permute(0, 3, 1, 2).to(torch.float32)
        state, state_mask = self._state(data, batch)
        return {
            **(self._action(data, batch) if self.training else {}),
            "state": state,
            "state_mask": state_mask,
            "embodiment_id": torch.full((batch,), self.embodiment_tag_mapping[self.embodiment_tag.value]),
            "eagle_input_ids": input_ids,
            "eagle_attention_mask": attention_mask,
            "eagle_pixel_values": (pixels - 127.5) / 127.5,
            "eagle_image_sizes": torch.tensor(frames.shape[2:4]).repeat(batch * images, 1),
        }

    def unapply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data unchanged: ConcatTransform drops the padding of the actions when it splits them."""
        return data

    def _action(self, data: dict[str, Any], batch: int) -> dict[str, Tensor]:
        """Return the actions to be learned, padded with zeros, and where they are not padding."""
        if "action" not in data:
            raise ObservationError("train mode: the sample has no action")
        action = torch.as_tensor(data["action"], dtype=torch.float32)
        dims = action.shape[-1]
        if action.shape[:2] != (batch, self.action_horizon) or not 1 <= dims <= self.max_action_dim:
            raise ObservationError(
                f"action: expected ({batch}, {self.action_horizon}, at most {self.max_action_dim}), "
                f"got {tuple(action.shape)}"
            )
        action, mask = _widened(action, self.max_action_dim)
        return {"action": action, "action_mask": mask}

    def _frames(self, data: dict[str, Any]) -> np.ndarray:
        """Return the images of each sample, (B, T*V, H, W, 3)."""
        if "video" not in data:
            raise ObservationError("the observation has no video")
        video = data["video"] if data["video"].ndim == 6 else data["video"][None]
        size = (self._image_size, self._image_size)
        if video.ndim != 6 or video.shape[3:5] != size:
            raise ObservationError(
                f"video: the model takes frames (B, T, V, {size[0]}, {size[1]}, 3), the transforms before it "
                f"gave {video.shape}; set VideoResize accordingly"
            )
        if video.dtype != np.uint8:
            raise ObservationError(
                f"video: expected dtype uint8, the transforms before the last gave {video.dtype}; end them "
                "with VideoToNumpy"
            )
        return video.reshape(len(video), -1, *video.shape[3:])

    def _texts(self, data: dict[str, Any], batch: int, batched: bool) -> list[str]:
        """Return the instruction of each sample as it stands in the prompt."""
        keys = [key for key in data if is_instruction_key(key)]
        if not keys:
            if not self._has_said_default:
                self._has_said_default = True
                logger.warning("no instruction given: %r is used, now and later", self.default_instruction)
            return [self.default_instruction] * batch
        if len(keys) > 1:
            raise ObservationError(f"expected one instruction, got {', '.join(keys)}")
        value = data[keys[0]]
        samples = list(value) if batched and not isinstance(value, str) else [value]
        if len(samples) != batch:
            raise ObservationError(
                f"{keys[0]}: expected {batch} instructions, one per sample, got {len(samples)}"
            )
        texts = [self._text(keys[0], sample) for sample in samples]
        if self.training and self.language_dropout_prob > 0:
            dropped = (torch.rand(batch) < self.language_dropout_prob).tolist()
            # As it is served where there is none: plain, whatever the prompt style.
            texts = [
                self.default_instruction if gone else text for gone, text in zip(dropped, texts, strict=True)
            ]
        return texts

    def _text(self, key: str, sample: Any) -> str:
        printed_as_array = isinstance(sample, np.ndarray) and sample.ndim > 0
        if isinstance(sample, np.ndarray):
            sample = sample.tolist()
        if isinstance(sample, list | tuple):
            if self.training:  # a data set has one for each time step observed; N1.5 takes the first
                sample = sample[:1]
            if len(sample) != 1:
                raise ObservationError(f"{key}: expected one instruction per sample, got {len(sample)}")
            sample = sample[0]
        if not isinstance(sample, str):
            raise ObservationError(f"{key}: expected text, got {type(sample).__name__}")
        text = str(sample)
        if IMAGE_TOKEN in text:
            raise ObservationError(f"{key}: an instruction must not contain {IMAGE_TOKEN}")
        if self.formalize_language:
            text = re.sub(r"[^\w\s]", "", text.lower())
        return str([text]) if printed_as_array and self._prompt_style == "brackets" else text

    def _tokenize(self, prompts: list[str], image_tokens: int) -> tuple[Tensor, Tensor]:
        """Return ids and mask, (B, L) each, padded on the left to the longest prompt."""
        assert self._tokenizer is not None
        encoded = [self._tokenizer.encode(prompt) for prompt in prompts]
        length = max(len(ids) for ids in encoded)
        if length - image_tokens > MAX_TEXT_TOKENS:
            raise ObservationError(
                f"an instruction makes a prompt of {length - image_tokens} tokens beside its images; at most "
                f"{MAX_TEXT_TOKENS} are accepted"
            )
        rows = [torch.tensor([ids], dtype=torch.int64) for ids in encoded]
        input_ids = pad_left(rows, self._tokenizer.pad_token_id)
        return input_ids, pad_left([torch.ones_like(ids) for ids in rows], 0)

    def _state(self, data: dict[str, Any], batch: int) -> tuple[Tensor, Tensor]:
        """Return the state, padded with zeros to (B, S, max_state_dim), and where it is not padding."""
        if "state" not in data:
            state = torch.zeros(batch, self.state_horizon, self.max_state_dim)
            return state, torch.zeros_like(state, dtype=torch.bool)
        state = torch.as_tensor(data["state"])
        state = state if state.ndim == 3 else state[None]
        if state.shape[:2] != (batch, self.state_horizon) or state.shape[2] > self.max_state_dim:
            raise ObservationError(
                f"state: expected ({batch}, {self.state_horizon}, at most {self.max_state_dim}), "
                f"got {tuple(state.shape)}"
            )
        return _widened(state, self.max_state_dim)


def _widened(vectors: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return vectors filled up with zeros to (..., width), and where they are not filled up."""
    missing = (0, width - vectors.shape[-1])
    return F.pad(vectors, missing), F.pad(torch.ones_like(vectors, dtype=torch.bool), missing)


# The path that users import it by is its name: `serving.identity.config_hash` hashes that, and trainings and
# evaluations that are gone on with compare the hash.
GR00TTransform.__module__ = "gr00t.model.transforms"
