"""A transform takes a dict of arrays under prefixed keys and returns a dict; a pipeline is a list of them.

The classes and their fields are those of Isaac-GR00T N1.5, so that its data configurations work unchanged.
A policy switches them to eval mode, a training run to train mode, where crops, colours and the like are
random.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from gr00t.data.errors import TransformError
from gr00t.data.schema import DatasetMetadata
from gr00t.spelling import did_you_mean


class ModalityTransform(BaseModel, ABC):
    """One step of a pipeline; `apply_to` lists the keys that it touches.

    Raises:
        TransformError: a field has a value that it does not take, or there is no such field: a misspelled one
            would leave the default in place.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    apply_to: list[str] = Field(..., description="the keys that the transform touches")
    training: bool = Field(default=True, description="train mode; a policy switches it off")
    _dataset_metadata: DatasetMetadata | None = PrivateAttr(default=None)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            known = type(self).model_fields
            problems = "; ".join(_problem(dict(one), known) for one in error.errors())
            raise TransformError(f"{type(self).__name__}: {problems}") from error

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


def _problem(error: dict[str, Any], known: Iterable[str]) -> str:
    """One thing that pydantic found, as `FIELD: WHAT`."""
    what = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:  # of several fields together, which it names
        return what
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{where}: no such field; {did_you_mean(where, known)}"
    got = "" if error["type"] in ("missing", "value_error") else f", got {error['input']!r}"
    return f"{where}: {what}{got}"
