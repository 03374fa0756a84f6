"""How much memory a training run will need, from the architecture alone: no weight is read or allocated.

One step is traced with fake tensors, which have shapes and no content, so that what is kept for the backward
pass is counted and not guessed. What a step needs besides follows from the number of parameters: float32
weights, gradients, AdamW's two moments, and the average if there is one.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.inputs import ModelInputs
from gr00t.training.flow_matching import Flow, masked_flow_loss
from gr00t.training.lora import LoraPlan, add_lora_, merged
from gr00t.training.plan import TrainingPlan, choose_parameters

_FLOAT = 4  # bytes; everything that is trained is float32
# Tokens of a prompt besides its images: the frame of the chat and a sentence.
TEXT_TOKENS = 64


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, of one process on its device; those on disk apart.

    Attributes:
        parameters: numbers in the network.
        trained: those of them that are trained.
        weights: of the network.
        gradients: of what is trained; twice where processes exchange them.
        optimizer: AdamW's moments.
        average: of the weights, where one is kept.
        activations: the most that forward and backward have allocated at once, besides the gradients.
        per_sample: how much of these each further sample of a batch adds.
        peak: the most at any time; less than the sum, since gradients come as activations go.
        loading: main memory that the weights take until they are on another device.
        checkpoint: on disk, of one checkpoint with the state to go on from.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    per_sample: int
    peak: int
    loading: int
    checkpoint: int


def estimate_memory(
    config: Gr00tConfig,
    plan: TrainingPlan,
    images: int,
    *,
    processes: int = 1,
    weight_bytes: int = 2,
    text_tokens: int = TEXT_TOKENS,
) -> MemoryEstimate:
    """Trace a step of `plan`, without its auxiliary losses.

    Args:
        config: the architecture.
        plan: what is done.
        images: of one sample.
        processes: that share a batch.
        weight_bytes: of each number in a checkpoint.
        text_tokens: of a prompt, besides its images.

    Raises:
        LoraError: the plan has LoRA, and peft is not installed.
    """
    batch = plan.batch_size // processes
    traced = plan.parts, plan.lora, plan.precision, plan.draws, min(2, plan.accumulation), images, text_tokens
    whole = _trace(config, batch, *traced)
    rest = whole.activations - _trace(config, 1, *traced).activations if batch > 1 else whole.activations
    gradients, optimizer = _FLOAT * whole.trained, 2 * _FLOAT * whole.trained
    average = _FLOAT * whole.trained if plan.ema_decay else 0
    exchanged = gradients * (2 if processes > 1 else 1)
    return MemoryEstimate(
        parameters=whole.saved,
        trained=whole.trained,
        weights=whole.weights,
        gradients=exchanged,
        optimizer=optimizer,
        average=average,
        activations=whole.activations,
        per_sample=rest // max(1, batch - 1),
        peak=whole.weights + optimizer + average + max(whole.peak, exchanged),
        loading=whole.weights,
        checkpoint=weight_bytes * whole.saved + gradients + optimizer + average,
    )


@dataclass(frozen=True)
class _Traced:
    """What a step is seen to do: numbers that are saved and trained; bytes of the others, besides weights."""

    saved: int
    trained: int
    weights: int
    activations: int
    peak: int


@functools.lru_cache(maxsize=32)
def _trace(
    config: Gr00tConfig,
    batch: int,
    parts: tuple[str, ...],
    lora: LoraPlan | None,
    precision: str,
    draws: int,
    times: int,
    images: int,
    text_tokens: int,
) -> _Traced:
    """Trace forward and backward, `times` times, as gradients of several batches are added up."""
    model = GR00T_N1_5.on_meta(config)
    if lora is not None:
        add_lora_(model, lora, seed=0, generator=torch.Generator())
    trained = choose_parameters(model, parts, lora)
    shapes = model.state_dict()
    allocated = _Allocated()
    with _fake(model), _gradients_told(model, allocated), allocated:
        for _ in range(times):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = _loss(model, batch, draws, images, text_tokens)
            loss.backward()
    return _Traced(
        saved=sum(value.numel() for _, value in merged(shapes, lora.scale if lora is not None else 0.0)),
        trained=sum(value.numel() for value in trained.values()),
        weights=_FLOAT * sum(value.numel() for value in shapes.values()),
        activations=allocated.most_without_gradients,
        peak=allocated.most,
    )


@contextmanager
def _fake(model: GR00T_N1_5) -> Iterator[None]:
    """Give a model on `meta` weights without content that count as the CPU's, where autocast works."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        state = {name: torch.empty(value.shape) for name, value in model.state_dict().items()}
        needed = {name for name, value in model.named_parameters() if value.requires_grad}
        model.load_state_dict(state, strict=True, assign=True)
        for name, value in model.named_parameters():
            value.requires_grad_(name in needed)
        model.backbone.materialize_buffers()
        yield


def _loss(model: GR00T_N1_5, batch: int, draws: int, images: int, text_tokens: int) -> Tensor:
    config = model.config
    horizon, width, size = config.action_horizon, config.action_dim, config.image_size
    tokens = images * config.tokens_per_image + text_tokens
    request = ModelInputs(
        torch.empty(batch * images, config.vision.num_channels, size, size),
        torch.zeros(batch, tokens, dtype=torch.int64),
        torch.ones(batch, tokens, dtype=torch.bool),
        torch.empty(batch, 1, config.max_state_dim),
        torch.zeros(batch, dtype=torch.int64),
    )
    actions, mask = torch.empty(batch, horizon, width), torch.ones(batch, horizon, width)
    flow = Flow(torch.empty(draws, batch, horizon, width), torch.empty(draws, batch))
    return masked_flow_loss(model, request, actions, mask, flow, mask.numel())


@contextmanager
def _gradients_told(model: GR00T_N1_5, allocated: _Allocated) -> Iterator[None]:
    """Tell `allocated` of every parameter whose gradient is there."""
    handles = []
    for value in model.parameters():
        if value.requires_grad:
            told: set[int] = set()

            def there(_: Tensor, size: int = _FLOAT * value.numel(), told: set[int] = told) -> None:
                allocated.gradients += 0 if told else size
                told.add(size)

            handles.append(value.register_post_accumulate_grad_hook(there))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Allocated(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make, for as long as they are there.

    Attributes:
        gradients: bytes of them, as far as somebody has told.
        most: that were there at once.
        most_without_gradients: the same, without those.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gradients = self.most = self.most_without_gradients = 0
        self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        # What an operation returns may be a view of what it was given.
        given = {
            id(value.untyped_storage()) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)
        }
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if id(storage) not in given and storage not in self._known:
                    self._add(storage)
        self.most = max(self.most, self._now)
        self.most_without_gradients = max(self.most_without_gradients, self._now - self.gradients)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(storage)
        self._now += size
        weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self._now -= size
