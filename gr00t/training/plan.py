"""What a training run is, apart from the data: everything that a resumed run must agree in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.spelling import did_you_mean
from gr00t.training.lora import LoraPlan, is_lora

PARTS = ("vision", "language", "projector", "diffusion")


@dataclass(frozen=True)
class TrainingPlan:
    """One run. The defaults are those with which N1.5 is fine-tuned.

    Attributes:
        steps: optimizer steps.
        batch_size: samples that go through the network at once, those of all processes.
        accumulation: how many such batches one step learns from; their gradient is that of one batch of so
            many times the size.
        learning_rate: its peak.
        warmup: share of the steps over which it rises from 0; it then falls to 0 along a cosine.
        weight_decay: of AdamW, on matrices.
        betas: of AdamW.
        gradient_clip: largest norm of a step's gradient.
        ema_decay: of the averaged weights that are saved; 0: the last ones.
        draws: flow noises and times per sample and step.
        parts: what is trained besides the adapter, of `PARTS`: vision (with the connector), language,
            projector (encoders and decoder of state and actions), diffusion (the DiT).
        lora: adapters that are trained in place of their layers' own weights; None: without. Nothing else is
            trained then but the projector, if it is among the parts.
        precision: in which matrices are multiplied; weights and their averages stay float32.
        seed: of batches, augmentations, noises and times.
    """

    steps: int
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 1e-4
    warmup: float = 0.05
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.95, 0.999)
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    draws: int = 1
    parts: tuple[str, ...] = ("projector", "diffusion")
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    seed: int = 0
    lora: LoraPlan | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("steps", "batch_size", "accumulation", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay: expected a number >= 0, got {self.weight_decay}")
        for name in ("warmup", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), got {getattr(self, name)}")
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"parts: {part!r}: {did_you_mean(part, PARTS)}")
        if not (math.isfinite(self.gradient_clip) and self.gradient_clip > 0):
            raise ValueError(f"gradient_clip: expected a positive number, got {self.gradient_clip}")
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise ValueError(f"betas: expected numbers in [0, 1), got {self.betas}")
        if self.lora is not None and (whole := set(self.parts) - {"projector"}):
            raise ValueError(
                f"parts: {', '.join(sorted(whole))} beside LoRA: its layers' own weights stay as they are; "
                "expected none, or projector"
            )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step number `step`, from 0."""
        rise = self.warmup * self.steps
        if step < rise:
            return self.learning_rate * (step + 1) / (rise + 1)
        done = (step - rise) / max(1.0, self.steps - rise)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))

    def ema_decay_at(self, step: int) -> float:
        """The decay of the average at step `step`: short at first, so that the start is soon forgotten."""
        return min(self.ema_decay, (1 + step) / (10 + step))


def choose_parameters(
    model: GR00T_N1_5, parts: tuple[str, ...], lora: LoraPlan | None = None
) -> dict[str, nn.Parameter]:
    """Let what is trained require gradients, and nothing else.

    That is `parts`, and the adapter and the future tokens, as in Isaac-GR00T N1.5. With `lora`, which
    `add_lora_` has put into the model, those two stay as they are, too.

    Returns:
        The parameters that are trained, by name.
    """
    head = model.action_head
    groups: dict[str, list[nn.Module]] = {
        "vision": [model.backbone.vision, model.backbone.connector],
        "language": [model.backbone.language_model],
        "projector": [head.state_encoder, head.action_encoder, head.action_decoder],
        "diffusion": [head.layers, head.time_encoder, head.out_norm, head.out_proj],
    }
    if model.backbone.projector is not None:
        groups["language"].append(model.backbone.projector)
    model.requires_grad_(False)
    if lora is None:
        if head.future_tokens is not None:
            head.future_tokens.requires_grad_(True)
        if model.adapter is not None:
            model.adapter.requires_grad_(True)
    else:
        for name, value in model.named_parameters():
            value.requires_grad_(is_lora(name))
    if head.position_embedding is not None:
        head.position_embedding.requires_grad_("projector" in parts)
    for part in parts:
        for module in groups[part]:
            module.requires_grad_(True)
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
