"""LoRA (arXiv 2106.09685) by `peft`: small matrices beside the attention's Linears are trained.

    y = W x + alpha / rank * B A dropout(x),      A (rank, in), B (out, rank)

The layers are those that Isaac-GR00T N1.5 chooses: every query, key and value projection of what NVIDIA's
checkpoints call the action head, that is the adapter and the DiT; on request those of the language model and
the vision tower, too. What is saved is an ordinary checkpoint, W + alpha / rank * B A, and, if wanted, the
matrices alone as peft writes them, under NVIDIA's names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gr00t.model.checkpoint.families import N1_5
from gr00t.model.gr00t_n1 import GR00T_N1_5

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_NAME = "default"  # peft's, of a model's first adapter
_A, _B = f".lora_A.{_NAME}.weight", f".lora_B.{_NAME}.weight"
_BASE = ".base_layer."
_PEFT_ROOT = "base_model.model."


class LoraError(ValueError):
    """LoRA that cannot be done; the message says what helps."""


@dataclass(frozen=True)
class LoraPlan:
    """What is trained by LoRA.

    Attributes:
        rank: inner dimension of the matrices.
        alpha: what they say counts alpha / rank times.
        dropout: share of their inputs that is left out in training.
        backbone: also in the language model and the vision tower.
    """

    rank: int
    alpha: float = 16
    dropout: float = 0.1
    backbone: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.rank < 1:
            raise ValueError(f"lora_rank: expected at least 1, or 0 for no LoRA, got {self.rank}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"lora_alpha: expected a positive number, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora_dropout: expected a number in [0, 1), got {self.dropout}")

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


class SeededDropout(nn.Module):
    """Dropout whose choices come from a generator of its own, not from that which all threads share.

    Batches are augmented in another thread while a step is learned from: with the shared one, which number
    each of them gets would be a matter of time.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share = share
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of `x`, and make up for it; in eval mode `x`."""
        if not self.training:
            return x
        chances = torch.rand(x.shape, generator=self.generator, device=x.device)
        return x * (chances >= self.share) / (1.0 - self.share)


def lora_layers(model: nn.Module, *, backbone: bool) -> list[str]:
    """Our names of the Linears that get matrices, in the model's order."""
    parts = ("adapter.", "action_head.", "backbone.") if backbone else ("adapter.", "action_head.")
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(parts) and name.endswith(_PROJECTIONS)
    ]


def is_lora(name: str) -> bool:
    """Whether a parameter is one of the matrices A and B."""
    return name.endswith((_A, _B))


def add_lora_(model: GR00T_N1_5, plan: LoraPlan, seed: int, generator: torch.Generator | None = None) -> None:
    """Put the matrices beside their layers: A random by `seed`, B zero, so that nothing changes yet.

    Args:
        model: changed in place; in eval mode then, but for the dropout.
        plan: which and how large.
        seed: of A.
        generator: of the dropout's choices, on the model's device; the caller seeds it before every step.

    Raises:
        LoraError: peft is not installed.
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=0.0,  # `SeededDropout` takes its place
        target_modules=lora_layers(model, backbone=plan.backbone),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, model)
    model.eval()
    if plan.dropout and generator is not None:
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.lora_dropout[_NAME] = SeededDropout(plan.dropout, generator)


def merged(values: Mapping[str, Tensor], scale: float) -> Iterator[tuple[str, Tensor]]:
    """Merge the matrices of a state into their layers' weights, one by one.

    Args:
        values: the state of a model with LoRA, by its names.
        scale: of B A.

    Yields:
        What the state of the model without LoRA would be, by that model's names.
    """
    for name, value in values.items():
        if is_lora(name):
            continue
        layer, inside, rest = name.partition(_BASE)
        if inside and rest == "weight":
            # As peft merges: B A, then the scale, then the sum.
            yield f"{layer}.weight", value + (values[layer + _B] @ values[layer + _A]) * scale
        else:
            yield f"{layer}.{rest}" if inside else name, value


def save_adapter(values: Mapping[str, Tensor], plan: LoraPlan, folder: Path, base: str) -> None:
    """Write the matrices as peft does, under NVIDIA's names: what has read a checkpoint can take them.

    Args:
        values: everything that was trained, by our names: the matrices, and what peft calls modules to save.
        plan: what they were trained with.
        folder: made where it does not exist.
        base: the checkpoint that they belong to, for whoever merges them.
    """
    tensors: dict[str, Tensor] = {}
    targets: list[str] = []
    whole: set[str] = set()
    for name, value in values.items():
        if is_lora(name):
            layer = _checkpoint_name(name.removesuffix(_A).removesuffix(_B))
            targets += [layer] if name.endswith(_A) else []
            stored = f"{layer}.{'lora_A' if name.endswith(_A) else 'lora_B'}.weight"
        else:
            stored = _checkpoint_name(name)
            whole.add(stored.rpartition(".")[0])
        tensors[_PEFT_ROOT + stored] = value.detach().cpu().contiguous()
    config = _peft().LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        target_modules=targets,
        bias="none",
        inference_mode=True,
        base_model_name_or_path=base,
        modules_to_save=sorted(whole) or None,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    described: dict[str, Any] = config.to_dict()
    described["target_modules"] = targets  # a set has no order
    text = json.dumps(described, indent=2, sort_keys=True, default=str)
    (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def _checkpoint_name(name: str) -> str:
    theirs = N1_5.names.to_checkpoint(name)
    assert theirs is not None, f"{name} is in every checkpoint"
    return theirs


def _peft() -> ModuleType:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise LoraError(
            f"LoRA needs the package {error.name}, which is not installed; run: scripts/setup_env.sh train"
        ) from error
    return peft
