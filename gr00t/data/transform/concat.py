"""Joining the parts of each modality in a stated order, and splitting a predicted action again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field, PrivateAttr

from gr00t.data.errors import ObservationError
from gr00t.data.schema import DatasetMetadata, RotationType, StateActionMetadata
from gr00t.data.transform.base import InvertibleModalityTransform, ModalityTransform
from gr00t.data.transform.rotation import rotation_width
from gr00t.spelling import did_you_mean


class ConcatTransform(InvertibleModalityTransform):
    """`video.*` to `video` (..., T, V, H, W, C), `state.*` to `state` (..., S, A), `action.*` to `action`."""

    apply_to: list[str] = Field(default_factory=list, description="not used: the orders name the keys")
    video_concat_order: list[str] = Field(
        ..., description="cameras, in the order in which the model sees them"
    )
    state_concat_order: list[str] | None = Field(default=None, description="state keys, in order")
    action_concat_order: list[str] | None = Field(default=None, description="action keys, in order")
    action_dims: dict[str, int] = Field(default_factory=dict, description="from the metadata")
    state_dims: dict[str, int] = Field(default_factory=dict, description="from the metadata")

    _transform_pipeline: list[ModalityTransform] = PrivateAttr(default_factory=list)

    def set_transform_pipeline(self, transforms: list[ModalityTransform]) -> None:
        """Tell which transforms come before: their rotation targets change the width of a key."""
        self._transform_pipeline = transforms

    def set_metadata(self, dataset_metadata: DatasetMetadata) -> None:
        """Look up the width of every state and action key.

        Raises:
            MetadataError: the metadata lacks one of the keys.
        """
        super().set_metadata(dataset_metadata)
        self.action_dims = {key: self._shape(key)[0] for key in self.action_concat_order or []}
        self.state_dims = {key: self._shape(key)[0] for key in self.state_concat_order or []}

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Join what is there; actions are absent at inference, states in configurations without any.

        Raises:
            ObservationError: a key of an order is missing while others of its modality are there, cameras
                differ in shape, or a state has a width that neither the metadata nor an earlier transform
                explains.
        """
        if any(key.startswith("video.") for key in data):
            frames = self._pop(data, self.video_concat_order)
            shapes = {key: view.shape for key, view in zip(self.video_concat_order, frames, strict=True)}
            if len(set(shapes.values())) != 1:
                raise ObservationError(f"cameras differ in shape: {shapes}")
            data["video"] = np.stack(frames, axis=-4)  # (..., T, H, W, C) -> (..., T, V, H, W, C)
        for modality, order, dims in (
            ("state", self.state_concat_order, self.state_dims),
            ("action", self.action_concat_order, self.action_dims),
        ):
            if order and any(key.startswith(f"{modality}.") for key in data):
                parts = self._pop(data, order)
                for key, part in zip(order, parts, strict=True):
                    self._check_width(key, part.shape[-1], dims)
                data[modality] = torch.cat(parts, dim=-1)
        return data

    def unapply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Split `action` (..., A) into its keys; dimensions behind the last one are padding: dropped."""
        for modality, order in (("action", self.action_concat_order), ("state", self.state_concat_order)):
            if modality in data and order:
                joined, start = data.pop(modality), 0
                for key in order:
                    stop = start + self.get_state_action_dims_post_transform(key)
                    data[key] = joined[..., start:stop]
                    start = stop
        return data

    def get_state_action_dims_post_transform(self, key: str) -> int:
        """Return the width of a state or action key as it leaves the transforms before this one."""
        if self._metadata(key).rotation_type is not None:
            for transform in self._transform_pipeline:
                target = getattr(transform, "target_rotations", {}).get(key)
                if target is not None:
                    return rotation_width(RotationType(target))
        return self._shape(key)[0]

    def _check_width(self, key: str, width: int, dims: dict[str, int]) -> None:
        allowed = {self.get_state_action_dims_post_transform(key), 2 * dims[key]}  # twice: sin and cos
        if width not in allowed:
            raise ObservationError(f"{key}: expected {min(allowed)} numbers per time step, got {width}")

    def _metadata(self, key: str) -> StateActionMetadata:
        return self.dataset_metadata.entry(self.dataset_metadata.modalities, key)

    def _shape(self, key: str) -> tuple[int, ...]:
        shape = self._metadata(key).shape
        if len(shape) != 1:
            raise ValueError(
                f"{key}: only one-dimensional keys can be joined, the metadata says shape {shape}"
            )
        return shape

    @staticmethod
    def _pop(data: dict[str, Any], order: list[str]) -> list[Any]:
        for key in order:
            if key not in data:
                raise ObservationError(f"no {key!r} in the observation; {did_you_mean(key, data)}")
        return [data.pop(key) for key in order]
