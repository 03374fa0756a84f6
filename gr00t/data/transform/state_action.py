"""Normalization of states and actions by the statistics of the training set.

Forward goes from robot to model. Nothing is clipped except in mode q99; statistics are cast to the dtype of
the value and the dtype is kept, so a float64 observation is normalized in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PrivateAttr, field_validator
from torch import Tensor

from gr00t.data.errors import MetadataError, ObservationError
from gr00t.data.schema import DatasetMetadata, RotationType, StateActionMetadata
from gr00t.data.transform.base import InvertibleModalityTransform, ModalityTransform
from gr00t.data.transform.rotation import convert_rotation, no_rotation, rotation_family, rotation_width
from gr00t.data.transform.state_noise import StateActionDropout, StateActionPerturbation
from gr00t.spelling import did_you_mean

# Under the name of this module N1.5 has all of them.
__all__ = [
    "Normalizer",
    "StateActionDropout",
    "StateActionPerturbation",
    "StateActionSinCosTransform",
    "StateActionToTensor",
    "StateActionTransform",
]


class Normalizer:
    """One mode with the statistics of one key, each of shape (A,)."""

    needs: ClassVar[dict[str, tuple[str, ...]]] = {
        "q99": ("q01", "q99"),
        "mean_std": ("mean", "std"),
        "min_max": ("min", "max"),
        "scale": ("min", "max"),
        "binary": (),
    }

    def __init__(self, mode: str, statistics: dict[str, Any]) -> None:
        """Check the mode and keep the statistics that it needs, in float64.

        Raises:
            ValueError: unknown mode, or the statistics lack a value that the mode needs.
        """
        if mode not in self.needs:
            raise ValueError(f"normalization mode {mode!r}: {did_you_mean(mode, self.needs)}")
        missing = [name for name in self.needs[mode] if name not in statistics]
        if missing:
            raise ValueError(
                f"normalization mode {mode!r} needs {', '.join(missing)}, got {', '.join(statistics)}"
            )
        self.mode = mode
        self._values = [
            torch.as_tensor(np.asarray(statistics[name], dtype=np.float64)) for name in self.needs[mode]
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (..., A)."""
        if self.mode == "binary":
            return (x > 0.5).to(x.dtype)
        a, b = self._cast(x)
        if self.mode == "mean_std":
            return torch.where(b != 0, (x - a) / torch.where(b != 0, b, 1), x)
        if self.mode == "scale":
            bound = torch.maximum(a.abs(), b.abs())
            return torch.where(bound != 0, x / torch.where(bound != 0, bound, 1), 0)
        # A key that never changed in training: min_max gives 0, q99 passes the value on, as the checkpoint
        # has seen it.
        spread = a != b
        scaled = 2 * ((x - a) / torch.where(spread, b - a, 1)) - 1
        if self.mode == "min_max":
            return torch.where(spread, scaled, 0)
        return torch.where(spread, scaled, x).clamp(-1, 1)

    def inverse(self, x: Tensor) -> Tensor:
        """Undo the normalization of x (..., A), as far as it can be undone.

        Raises:
            ValueError: mode `scale` has no inverse in GR00T N1.5.
        """
        if self.mode == "binary":
            return (x > 0.5).to(x.dtype)
        if self.mode == "scale":
            raise ValueError("normalization mode 'scale' has no inverse; it can be used for states only")
        a, b = self._cast(x)
        return x * b + a if self.mode == "mean_std" else (x + 1) / 2 * (b - a) + a

    def _cast(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self._values
        return a.to(x.device, x.dtype), b.to(x.device, x.dtype)


class StateActionToTensor(InvertibleModalityTransform):
    """Arrays to tensors of the same dtype, and back."""

    input_dtypes: dict[str, Any] = Field(
        default_factory=dict, description="numpy dtype per key on the way back"
    )
    output_dtypes: dict[str, Any] = Field(default_factory=dict, description="torch dtype per key")

    @field_validator("input_dtypes")
    @classmethod
    def _numpy_dtypes(cls, dtypes: dict[str, Any]) -> dict[str, np.dtype]:
        return {key: np.dtype(str(name).rpartition(".")[2]) for key, name in dtypes.items()}

    @field_validator("output_dtypes")
    @classmethod
    def _torch_dtypes(cls, dtypes: dict[str, Any]) -> dict[str, torch.dtype]:
        return {key: getattr(torch, str(name).rpartition(".")[2]) for key, name in dtypes.items()}

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Turn the arrays under `apply_to` into tensors; absent keys are skipped (actions, at inference).

        Raises:
            ObservationError: a value is not a numpy array.
        """
        for key in self.apply_to:
            if key in data:
                if not isinstance(data[key], np.ndarray):
                    raise ObservationError(f"{key}: expected a numpy array, got {type(data[key]).__name__}")
                # A copy in native byte order: arrays off the wire may be read-only, views may run backwards.
                native = np.array(data[key], dtype=data[key].dtype.newbyteorder("="), order="C")
                data[key] = torch.from_numpy(native).to(self.output_dtypes.get(key))
        return data

    def unapply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Turn the tensors under `apply_to` into arrays."""
        for key in self.apply_to:
            if key in data:
                array = data[key].numpy()
                data[key] = array.astype(self.input_dtypes[key]) if key in self.input_dtypes else array
        return data


class StateActionTransform(InvertibleModalityTransform):
    """Rotation targets first, normalization second; a key without a mode passes unchanged."""

    normalization_modes: dict[str, str] = Field(default_factory=dict, description="mode per key")
    target_rotations: dict[str, str] = Field(
        default_factory=dict, description="rotation representation per key"
    )
    normalization_statistics: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="from the metadata"
    )
    modality_metadata: dict[str, StateActionMetadata] = Field(
        default_factory=dict, description="from the metadata"
    )

    _normalizers: dict[str, Normalizer] = PrivateAttr(default_factory=dict)
    _rotations: dict[str, tuple[RotationType, RotationType]] = PrivateAttr(default_factory=dict)

    # A converted rotation has no statistics of its own, but its representation is bounded.
    _BOUNDS: ClassVar[dict[str, tuple[float, int]]] = {
        "rotation_6d": (1.0, 6),
        "quaternion": (1.0, 4),
        "euler_angles": (float(np.pi), 3),
        "axis_angle": (float(np.pi), 3),
    }

    @field_validator("normalization_modes")
    @classmethod
    def _known_modes(cls, modes: dict[str, str]) -> dict[str, str]:
        for key, mode in modes.items():
            if mode not in Normalizer.needs:
                raise ValueError(
                    f"{key}: normalization mode {mode!r}: {did_you_mean(mode, Normalizer.needs)}"
                )
        return modes

    @field_validator("target_rotations")
    @classmethod
    def _known_rotations(cls, targets: dict[str, str]) -> dict[str, str]:
        known = [rotation.value for rotation in RotationType]
        for key, target in targets.items():
            if target not in known:
                raise ValueError(f"{key}: target rotation {target!r}: {did_you_mean(target, known)}")
        return targets

    def set_metadata(self, dataset_metadata: DatasetMetadata) -> None:
        """Prepare one normalizer and one rotation per key.

        Raises:
            MetadataError: the metadata lacks a key, or a mode does not suit what it says about the key.
        """
        super().set_metadata(dataset_metadata)
        for key in {*self.apply_to, *self.target_rotations, *self.normalization_modes}:
            self.modality_metadata[key] = dataset_metadata.entry(dataset_metadata.modalities, key)
        self.check_keys(self.modality_metadata)
        self._rotations = {
            key: (source, RotationType(target))
            for key, target in self.target_rotations.items()
            if (source := self.modality_metadata[key].rotation_type) and source is not RotationType(target)
        }
        for key in self.normalization_modes:
            values = dataset_metadata.entry(dataset_metadata.statistics, key)
            self.normalization_statistics[key] = values.model_dump()
        self._normalizers = {key: self._normalizer(key) for key in self.normalization_modes}

    def check_keys(self, described: Mapping[str, StateActionMetadata]) -> None:
        """Compare modes and targets with what the keys are, as far as they are described.

        Raises:
            MetadataError: a key cannot be normalized, or converted, in the way that is asked for.
        """
        for key in {**self.target_rotations, **self.normalization_modes}:
            if key in described:
                self._check_key(key, described[key])

    def _check_key(self, key: str, metadata: StateActionMetadata) -> None:
        source, target = metadata.rotation_type, self.target_rotations.get(key)
        if target is not None and source is None:
            raise MetadataError(f"{key}: target rotation {target!r}, but it has no rotation_type")
        mode = self.normalization_modes.get(key)
        if source is None or target is None or source is RotationType(target):
            if mode not in (None, "binary") and not metadata.continuous:
                raise MetadataError(
                    f"{key}: not continuous, so its normalization mode is 'binary', not {mode!r}"
                )
            return
        if metadata.shape != (rotation_width(source),):
            raise MetadataError(
                f"{key}: a rotation as {source.value} has {rotation_width(source)} numbers, "
                f"its shape is {metadata.shape}"
            )
        family = rotation_family(RotationType(target))
        usable = metadata.absolute and mode == "min_max" and family in self._BOUNDS
        if mode is not None and not usable:
            raise MetadataError(
                f"{key}: a rotation converted to {family} can only be normalized by 'min_max' and only if "
                f"absolute, got mode {mode!r}, absolute={metadata.absolute}"
            )

    def _normalizer(self, key: str) -> Normalizer:
        if key not in self._rotations:
            return Normalizer(self.normalization_modes[key], self.normalization_statistics[key])
        bound, width = self._BOUNDS[rotation_family(self._rotations[key][1])]
        return Normalizer("min_max", {"min": [-bound] * width, "max": [bound] * width})

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Rotate and normalize the tensors (..., A) under `apply_to`; absent keys are skipped.

        Raises:
            ObservationError: a value is so far from those of the training set that it overflows, or is no
                rotation where it has to be one.
        """
        for key in self.apply_to:
            if key in data:
                value = data[key]
                if key in self._rotations:
                    source, target = self._rotations[key]
                    problem = no_rotation(value, source)
                    if problem is not None:
                        raise ObservationError(f"{key}: {problem}")
                    value = convert_rotation(value, source, target)
                if key in self._normalizers:
                    value = self._normalizers[key].forward(value)
                    if not torch.isfinite(value).all():
                        largest = data[key].abs().max().item()
                        raise ObservationError(
                            f"{key}: numbers up to {largest:g} are too far from those of the training set: "
                            "normalizing them overflows"
                        )
                data[key] = value
        return data

    def unapply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Undo normalization, then rotation."""
        for key in self.apply_to:
            if key in data:
                value = data[key]
                if key in self._normalizers:
                    value = self._normalizers[key].inverse(value)
                if key in self._rotations:
                    source, target = self._rotations[key]
                    value = convert_rotation(value, target, source)
                data[key] = value
        return data


class StateActionSinCosTransform(ModalityTransform):
    """Joint angles to sines and cosines, which doubles their number; it has no inverse."""

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Replace (..., A) by the sines of all dimensions followed by their cosines, (..., 2A)."""
        for key in self.apply_to:
            if key in data:
                data[key] = torch.cat([torch.sin(data[key]), torch.cos(data[key])], dim=-1)
        return data
