"""The policy that the flags of a command describe, and in few words how it is quantized."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy


class PolicyFlags(Protocol):
    """The flags that all commands have that load a policy."""

    @property
    def data_config(self) -> str | None:
        """Keys and transforms."""

    @property
    def base(self) -> str | None:
        """Checkpoint that an adapter was trained on."""

    @property
    def dtype(self) -> str:
        """Of what is not quantized."""

    @property
    def embodiment_tag(self) -> str | None:
        """Whose statistics and projections are used."""

    @property
    def denoising_steps(self) -> int | None:
        """Euler steps per action chunk."""

    @property
    def device(self) -> str | None:
        """Where it runs."""

    @property
    def tokenizer(self) -> str | None:
        """Folder or hub id."""

    @property
    def prompt_style(self) -> str:
        """The instruction in the prompt."""


def load_by_flags(
    flags: PolicyFlags, model_path: str, environ: Mapping[str, str], **options: Any
) -> Gr00tPolicy:
    """Return the policy of a checkpoint, on its device and quantized as `environ` says.

    Args:
        flags: of the command.
        model_path: folder or hub id of the checkpoint.
        environ: the settings.
        options: others of `Gr00tPolicy`.

    Raises:
        CheckpointError and others: see `checkpoint_data_config.load_policy`.
    """
    from gr00t.experiment import checkpoint_data_config

    return checkpoint_data_config.load_policy(
        model_path,
        flags.data_config,
        base=flags.base,
        dtype=flags.dtype,
        embodiment_tag=flags.embodiment_tag,
        denoising_steps=flags.denoising_steps,
        device=flags.device,
        tokenizer=flags.tokenizer,
        prompt_style=flags.prompt_style,
        environ=environ,
        **options,
    )


def counted_layers(report: Mapping[str, Any], noun: str) -> str | None:
    """Return how many layers a report has of which bits, `116 layers (116 x W4 A8)`; None without any.

    Args:
        report: the policy's or a server's quantization report.
        noun: what to call them.
    """
    if not report.get("enabled") or not report.get("layers_quantized"):
        return None
    kinds = collections.Counter(layer["bits"] for layer in report["layers"].values())
    counts = ", ".join(f"{count} x {bits}" for bits, count in kinds.items() if bits != "W16 A16")
    return f"{report['layers_quantized']} {noun} ({counts})"
