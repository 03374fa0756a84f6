"""A transform takes a dict of arrays under prefixed keys and returns a dict; a pipeline is a list of them.

The classes and their fields are those of Isaac-GR00T N1.5, so that its data configurations work unchanged.
A policy switches them to eval mode, a training run to train mode, where crops and colours are random.
Augmentations that no configuration of N1.5 uses are accepted, are identities in eval mode and refuse to run
in train mode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from gr00t.data.schema import DatasetMetadata


class ModalityTransform(BaseModel, ABC):
    """One step of a pipeline; `apply_to` lists the keys that it touches."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    apply_to: list[str] = Field(..., description="the keys that the transform touches")
    training: bool = Field(default=True, description="train mode; a policy switches it off")
    _dataset_metadata: DatasetMetadata | None = PrivateAttr(default=None)

    @property
    def dataset_metadata(self) -> DatasetMetadata:
        """The metadata of the checkpoint that is being served.

        Raises:
            RuntimeError: `set_metadata` was not called yet.
        """
        if self._dataset_metadata is None:
            raise RuntimeError(f"{type(self).__name__}: call set_metadata() before applying the transform")
        return self._dataset_metadata

    @dataset_metadata.setter
    def dataset_metadata(self, value: DatasetMetadata) -> None:
        self._dataset_metadata = value

    def set_metadata(self, dataset_metadata: DatasetMetadata) -> None:
        """Tell the transform shapes and statistics; subclasses prepare what they derive from them."""
        self._dataset_metadata = dataset_metadata

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Same as `apply`."""
        return self.apply(data)

    @abstractmethod
    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return `data` with the transform applied to the keys of `apply_to`."""

    def train(self) -> None:
        """Switch to train mode."""
        self.training = True

    def eval(self) -> None:
        """Switch to eval mode."""
        self.training = False


class InvertibleModalityTransform(ModalityTransform):
    """A transform that the way back, from model output to robot action, has to undo."""

    @abstractmethod
    def unapply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return `data` with the transform undone."""


class ComposedModalityTransform(ModalityTransform):
    """Transforms applied in order, and undone in the opposite order."""

    transforms: list[ModalityTransform] = Field(..., description="the steps, in order")
    apply_to: list[str] = Field(default_factory=list, description="not used: each step has its own")

    def set_metadata(self, dataset_metadata: DatasetMetadata) -> None:
        """Pass the metadata to every step."""
        super().set_metadata(dataset_metadata)
        for transform in self.transforms:
            transform.set_metadata(dataset_metadata)
            # Splitting an action needs the widths that rotation targets of earlier steps gave its parts.
            set_pipeline = getattr(transform, "set_transform_pipeline", None)
            if set_pipeline is not None:
                set_pipeline(self.transforms)

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Run all steps on a shallow copy, so that the caller's dict stays as it was."""
        data = dict(data)
        for transform in self.transforms:
            data = transform(data)
        return data

    def unapply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Undo all invertible steps, last one first, on a shallow copy."""
        data = dict(data)
        for transform in reversed(self.transforms):
            unapply = getattr(transform, "unapply", None)
            if unapply is not None:
                data = unapply(data)
        return data

    def train(self) -> None:
        """Switch every step to train mode."""
        super().train()
        for transform in self.transforms:
            transform.train()

    def eval(self) -> None:
        """Switch every step to eval mode."""
        super().eval()
        for transform in self.transforms:
            transform.eval()


def refuse_training(transform: ModalityTransform) -> NoReturn:
    """Raise for a random augmentation that is asked to run in train mode.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        f"{type(transform).__name__} is not implemented for training; leave it out of the data config, or "
        "call eval() on the transform (a policy does so by itself)"
    )
