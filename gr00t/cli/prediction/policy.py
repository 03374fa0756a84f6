"""The policy that predicts: a checkpoint that is loaded here, or a running server."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gr00t.cli.prediction.arguments import OpenLoopArguments
from gr00t.cli.serving.policy import counted_layers, load_by_flags
from gr00t.cli.serving.scope import scoped
from gr00t.data.dataset import ModalityConfig
from gr00t.serving.client import ExternalRobotInferenceClient, ServerError


@dataclasses.dataclass(frozen=True)
class OpenLoopPolicy:
    """What is evaluated.

    Attributes:
        name: for people.
        quantized: what it says of its quantization.
        modalities: keys and time steps.
        act: returns actions for an observation, with a seed of its noise.
    """

    name: str
    quantized: str
    modalities: dict[str, ModalityConfig]
    act: Callable[[dict[str, Any], int | None], Mapping[str, Any]]


@contextlib.contextmanager
def opened_policy(arguments: OpenLoopArguments) -> Iterator[OpenLoopPolicy]:
    """Load the policy, or connect to its server."""
    if arguments.model_path is not None:
        yield loaded_policy(arguments, arguments.model_path)
        return
    client = ExternalRobotInferenceClient(arguments.host, arguments.port, api_token=arguments.api_token)
    with client:
        yield OpenLoopPolicy(
            name=f"server at {client.address}",
            quantized=served_quantization(client),
            modalities=client.get_modality_config(),
            act=lambda observation, seed: client.get_action(observation, seed=seed),
        )


def loaded_policy(arguments: OpenLoopArguments, model_path: str) -> OpenLoopPolicy:
    """The policy of a checkpoint, quantized as the environment says."""
    policy = load_by_flags(arguments, model_path, scoped(os.environ, arguments.scope))
    return OpenLoopPolicy(
        name=f"{model_path}, {policy.denoising_steps} denoising steps, {policy.device}",
        quantized=describe_quantization(policy.quantization_report()),
        modalities=policy.get_modality_config(),
        act=lambda observation, seed: policy.get_action(observation, seeds=seed),
    )


def served_quantization(client: ExternalRobotInferenceClient) -> str:
    """What a server says of the quantization of its model."""
    try:
        return describe_quantization(client.get_quantization_report())
    except ServerError as error:
        if "Unknown endpoint" not in error.reply:
            raise
        return "not told by this server"  # NVIDIA's knows no such question


def describe_quantization(report: Mapping[str, Any]) -> str:
    """A report in one line."""
    layers = counted_layers(report, "layers")
    calibrating = "; activation scales are still being calibrated" if report.get("calibrating") else ""
    return f"{layers}{calibrating}" if layers else "no"
