"""One arm in a process of its own: it loads its model once, and answers one timed request whenever asked."""

from __future__ import annotations

import dataclasses
import enum
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.compiling import compile_model
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.model.serving_form import settle_weights
from gr00t.processes.freed_memory import keep_freed_memory, return_freed_memory
from gr00t.quantization import enable_duquant_if_configured
from gr00t.quantization.settings.environment import to_environ
from policy_parts.operators import costliest
from policy_parts.request import EMBODIMENT, random_request


@dataclasses.dataclass(frozen=True)
class Arm:
    """What is timed.

    Attributes:
        execution: of the quantized layers, as GR00T_DUQUANT_EXECUTION has it; None: not quantized.
        compiled: torch.compile around them.
        scope: which layers are quantized, as `--scope` has it.
    """

    execution: str | None
    compiled: bool
    scope: str = "document"


ARMS = {
    "bf16": Arm(None, False),
    "integer": Arm("integer", False),
    "fake": Arm("fake", False),
    "bf16-compiled": Arm(None, True),
    "integer-compiled": Arm("integer", True),
    "wide": Arm("integer", False, "wide"),
    "wide-compiled": Arm("integer", True, "wide"),
}


class Watched(enum.Enum):
    """What is looked at while a request is answered; looking takes time."""

    NOTHING = enum.auto()
    STAGES = enum.auto()
    OPERATORS = enum.auto()


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all arms have in common.

    Attributes:
        checkpoint: folder in bf16.
        artefacts: folders of the same, exported, by scope.
        layers: names of the quantized layers, by scope.
        device: where to compute.
        threads: of the CPU.
    """

    checkpoint: Path
    artefacts: Mapping[str, Path]
    layers: Mapping[str, Sequence[str]]
    device: str
    threads: int

    @property
    def times_cpu(self) -> bool:
        """Whether stages are timed in CPU time: with one thread, other programs do not change it."""
        return self.threads == 1 and self.device == "cpu"


def answer(connection: Connection, arm: Arm, setting: Setting, environ: dict[str, str]) -> None:
    """Load, say so, then answer (steps, what to watch) by milliseconds, until the connection is closed."""
    torch.set_num_threads(setting.threads)
    return_freed_memory()  # as a server does
    model = load(arm, setting, environ)
    keep_freed_memory()
    request = random_request(model.config)
    connection.send("ready")
    while True:
        try:
            steps, watched = connection.recv()
        except EOFError:
            return
        model.action_head.num_inference_timesteps = steps
        times: dict[str, float] = {}
        act = partial(model.get_action, request, seeds=[0])
        operators = costliest(act) if watched is Watched.OPERATORS else []
        handles = watch(model, setting, times) if watched is Watched.STAGES else []
        cpu = time.process_time()
        times["total"], answered = timed(act, model.device)
        cpu = 1e3 * (time.process_time() - cpu)
        if watched is Watched.STAGES and setting.times_cpu:
            times["total"] = cpu
        for handle in handles:
            handle.remove()
        action = answered["action_pred"].double().cpu().numpy()
        connection.send(
            {
                "times": times,
                "cpu": cpu,
                "operators": operators,
                "peak": peak_bytes(model.device),
                "action": action,
            }
        )


def load(arm: Arm, setting: Setting, environ: dict[str, str]) -> GR00T_N1_5:
    """The arm's model, on its device."""
    if arm.execution == "integer":
        settings = to_environ({"EXECUTION": "integer"}, environ)
        # As a server does.
        served = None if arm.compiled or setting.device != "cpu" else EMBODIMENT
        model, _ = open_checkpoint(setting.artefacts[arm.scope]).load_model(torch.bfloat16, settings, served)
    else:
        model = GR00T_N1_5.from_pretrained(setting.checkpoint, torch.bfloat16)
        if arm.execution is not None:
            settings = to_environ({"CALIB_STEPS": "0", "EXECUTION": arm.execution}, environ)
            enable_duquant_if_configured(model, settings, module_aliases(model), DEFAULTS)
    if setting.device != "cpu":
        model.to(setting.device)
    settle_weights(model, packs=not arm.compiled)
    if arm.compiled:
        compile_model(model)
    return model


def watch(model: GR00T_N1_5, setting: Setting, times: dict[str, float]) -> list[Any]:
    """Add up in `times` what the stages take, and a scope's layers (or what they replace) together."""
    stages: dict[str, list[nn.Module]] = {
        "vision": [model.backbone.vision, model.backbone.connector],
        "language model": [model.backbone.language_model],
        "adapter": [] if model.adapter is None else [model.adapter],
        "diffusion transformer": list(model.action_head.layers),
        **{
            layers_of(scope): [model.get_submodule(name) for name in names]
            for scope, names in setting.layers.items()
        },
    }
    clock = time.process_time if setting.times_cpu else time.perf_counter
    handles = []
    for name, modules in stages.items():
        times[name] = 0.0
        for module in modules:
            handles += _watch(module, name, times, clock, model.device)
    return handles


def layers_of(scope: str) -> str:
    """What the stage is called that is the layers of a scope."""
    return "quantized layers" if scope == "document" else f"layers of {scope}"


def _watch(
    module: nn.Module, name: str, times: dict[str, float], clock: Callable[[], float], device: torch.device
) -> list[Any]:
    begun: list[float] = []

    def before(*_: Any) -> None:
        wait(device)
        begun.append(clock())

    def after(*_: Any) -> None:
        wait(device)
        times[name] += 1e3 * (clock() - begun.pop())

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def timed(what: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Milliseconds of one call, and what it returns."""
    wait(device)
    begun = time.perf_counter()
    returned = what()
    wait(device)
    return 1e3 * (time.perf_counter() - begun), returned


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int:
    """The most memory that was in use: allocated on a GPU, resident in this process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
