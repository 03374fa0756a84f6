"""Load, quantize and serve a policy, or list what would be quantized."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gr00t.cli.errors import UsageError
from gr00t.cli.serving.arguments import ServeArguments
from gr00t.cli.serving.policy import counted_layers, load_by_flags
from gr00t.cli.serving.scope import scoped
from gr00t.cli.serving.wires import VLA_EVAL, check_installed, chosen_wires, server_class
from gr00t.processes.collector import collector_paused
from gr00t.processes.freed_memory import keep_freed_memory, return_freed_memory, use_huge_pages
from gr00t.serving.sockets.address import check_port_free

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy
    from gr00t.serving.robot import RobotInferenceServer

logger = logging.getLogger("gr00t.service")


def serve(arguments: ServeArguments) -> None:
    """Load, quantize and serve the policy. What can be checked without it is, first; the port opens last."""
    from gr00t.model.checkpoints import scan_layers
    from gr00t.quantization.settings.environment import DuQuantConfig, why_not_enabled

    environ = scoped(os.environ, arguments.scope)
    settings = DuQuantConfig.from_environ(environ)
    if settings is not None and settings.dry_run:
        with collector_paused():
            scan_layers(arguments.model_path, environ, arguments.base)
        return
    if DuQuantConfig.given(environ).get("dry_run"):
        # GR00T_DUQUANT_ENABLE=0 beside it. Nothing to list, but a dry-run never serves.
        logger.info("[GR00T-DUQUANT] DuQuant not enabled: %s; nothing to list", why_not_enabled(environ))
        return
    if arguments.model_path is None:
        raise UsageError("--server needs --model-path: a checkpoint folder or model hub id")
    wires = chosen_wires(arguments.wire, arguments.port, arguments.http_server)
    for wire in wires:
        check_port_free(arguments.host, wire.port)
        check_installed(wire.name)
    use_huge_pages(os.environ)
    return_freed_memory()
    from gr00t.serving.together import run_together

    policy = load_policy(arguments, arguments.model_path)
    keep_freed_memory()
    info = server_info(arguments, policy)
    servers: list[RobotInferenceServer] = []
    for wire in wires:
        own = vla_eval_options(arguments) if wire.name == VLA_EVAL else {}
        server = server_class(wire.name)(
            policy,
            host=arguments.host,
            port=wire.port,
            api_token=arguments.api_token,
            max_batch=arguments.max_batch,
            info=info,
            beside=servers[0] if servers else None,
            **own,
        )
        servers.append(server)
        logger.info("Serving %s; %s", describe(arguments, policy), server.address)
    logger.info(
        "Observations are computed %s",
        f"together, up to {server.max_batch} that wait" if server.is_batched else "one at a time",
    )
    run_together(servers)


def vla_eval_options(arguments: ServeArguments) -> dict[str, Any]:
    """Return what only vla-eval's server takes."""
    return {"replan_steps": arguments.replan_steps, "seed": arguments.seed or 0}


def load_policy(arguments: ServeArguments, model_path: str) -> Gr00tPolicy:
    """Return the complete policy, on its device and quantized as the environment says."""
    environ = scoped(os.environ, arguments.scope)
    return load_by_flags(
        arguments, model_path, environ, seed=arguments.seed, compiled=arguments.compile, settled=True
    )


def describe(arguments: ServeArguments, policy: Any) -> str:
    """Return what is served, in one line."""
    layers = counted_layers(policy.quantization_report(), "layers quantized")
    quantized = (
        f"{layers}, {arguments.dtype} elsewhere" if layers else f"NOT quantized, {arguments.dtype} throughout"
    )
    return (
        f"{arguments.model_path}: {quantized}; prompt form {arguments.prompt_style}; "
        f"{policy.denoising_steps} denoising steps; device {policy.device}"
    )


def server_info(arguments: ServeArguments, policy: Any) -> dict[str, Any]:
    """Return what the endpoint `get_server_info` says of the policy."""
    from gr00t.experiment.checkpoint_data_config import served_data_config
    from gr00t.serving.example_request import describe_observation
    from gr00t.serving.identity import served_identity

    name, data_config = served_data_config(arguments.data_config, policy)
    # A hub id's folder is where the policy found it.
    folder = Path(getattr(policy, "model_path", str(arguments.model_path)))
    metadata = getattr(policy, "metadata", None)
    observation = (
        {}
        if metadata is None
        else {"observation": describe_observation(policy.get_modality_config(), metadata)}
    )
    return {
        **observation,
        "model_path": str(arguments.model_path),
        "data_config": name,
        "embodiment_tag": getattr(policy, "embodiment_name", arguments.embodiment_tag),
        "denoising_steps": policy.denoising_steps,
        "dtype": arguments.dtype,
        "compiled": arguments.compile,
        "device": str(policy.device),
        "prompt_style": arguments.prompt_style,
        "seed": arguments.seed,
        "identity": served_identity(
            folder,
            data_config,
            arguments.tokenizer,
            str(policy.device),
            getattr(policy, "read_from", ()),
            getattr(policy, "file_hashes", None),
        ),
    }
