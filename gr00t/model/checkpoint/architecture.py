"""What the architectures of all families have in common, whatever their files call it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from gr00t.model.checkpoint.families import Family


class Architecture(ABC):
    """The configuration of a checkpoint: one class per family, built from JSON only.

    Attributes:
        family: which.
    """

    family: ClassVar[Family]

    @property
    @abstractmethod
    def action_dim(self) -> int:
        """A: length of one action vector, padding included."""

    @property
    @abstractmethod
    def action_horizon(self) -> int:
        """H: actions in one chunk."""

    @property
    @abstractmethod
    def max_state_dim(self) -> int:
        """Length to which a robot's state is padded."""

    @property
    @abstractmethod
    def num_embodiments(self) -> int:
        """How many embodiments have encoder and decoder weights of their own."""

    @property
    @abstractmethod
    def num_inference_timesteps(self) -> int:
        """Denoising steps the checkpoint asks for."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Rows of the language model's embedding."""

    @abstractmethod
    def to_json_files(self) -> dict[str, dict[str, Any]]:
        """The JSON objects this was built from, by the names of their files."""

    @abstractmethod
    def files_beside(self, dtype: str) -> dict[str, dict[str, Any]]:
        """The same as they are written beside weights of a dtype, such as "bfloat16"."""

    @abstractmethod
    def told_by(self, has_file: Callable[[str], bool]) -> str:
        """Name what says the sizes of a checkpoint.

        Args:
            has_file: whether the checkpoint's folder has a file of that name.
        """
