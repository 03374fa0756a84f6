"""Serve GR00T N1.5 over ZeroMQ or HTTP, or ask a running server for one action.

python scripts/inference_service.py --server --model-path PATH_OR_HUB_ID
python scripts/inference_service.py --client

With --http-server both speak HTTP.

The GR00T_DUQUANT_* variables decide whether the served model is quantized; with GR00T_DUQUANT_DRYRUN=1 its
layers are listed and nothing is served. What scripts/export_quantized.py wrote needs none of them.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.util
import logging
import os
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import tyro

from gr00t.cli.errors import UsageError
from gr00t.console import log_to_stderr
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.serving.client import ExternalRobotInferenceClient, ServerError
from gr00t.serving.example_request import describe_locally, describe_observation, example_of
from gr00t.serving.http.client import HTTPInferenceClient, StatusError
from gr00t.serving.identity import served_identity
from gr00t.serving.robot import DEFAULT_MAX_BATCH, RobotInferenceServer
from gr00t.serving.sockets.address import check_port_free

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy

DRYRUN = "GR00T_DUQUANT_DRYRUN"

logger = logging.getLogger("gr00t.service")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Serve GR00T N1.5 (--server), or ask a running server for one action (--client)."""

    server: bool = False
    """Load the model and serve it."""
    client: bool = False
    """Send one example observation to a server; print the shapes of its answer and how long it took."""
    http_server: bool = False
    """Speak HTTP with JSON (POST /act, GET /health) instead of ZeroMQ."""
    model_path: str | None = None
    """Checkpoint folder or model hub id. With --client, if the server does not tell the states' widths: a
    folder whose metadata does."""
    data_config: str | None = None
    """Keys and transforms: a registered name, or "module:Class" of your own (default: LIBERO's; a policy of
    lerobot has its own)."""
    embodiment_tag: str | None = None
    """Whose statistics and projections are used (default: new_embodiment, or a policy of lerobot's own)."""
    base: str | None = None
    """Checkpoint that an adapter was trained on, or that a policy of lerobot began from."""
    denoising_steps: int | None = None
    """Euler steps per action chunk; the checkpoint's own number if not given."""
    host: str = "localhost"
    """Address to listen on, or to connect to; 0.0.0.0 listens on every interface, :: on IPv6's, too."""
    port: int = 5555
    """TCP port."""
    api_token: str | None = None
    """Secret that requests must carry; without one, whoever reaches the port may use it."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of what is not quantized."""
    compile: bool = False
    """Let torch.compile fuse what is not quantized: slow first requests, faster ones after."""
    max_batch: int = DEFAULT_MAX_BATCH
    """How many observations may share a forward or come in one request; 1: others change not a single bit."""
    seed: int | None = None
    """Fixes the flow noise, with --server of all requests by their order, with --client of its one."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt: ['TEXT'] as in NVIDIA's inference, or TEXT as in its training."""


def run(arguments: Arguments) -> None:
    """Do what the flags say; return when the server was told to stop or the client has its answer."""
    if arguments.server == arguments.client:
        raise UsageError("give one of --server and --client")
    if arguments.api_token == "":
        raise UsageError("--api-token is empty: it would protect nothing")
    if arguments.max_batch < 1:
        raise UsageError(f"--max-batch: expected at least 1, got {arguments.max_batch}")
    if arguments.client:
        ask(arguments)
    else:
        serve(arguments)


def serve(arguments: Arguments) -> None:
    """Load, quantize and serve the policy. What can be checked without it is, first; the port opens last."""
    from gr00t.quantization.settings.environment import DuQuantConfig, why_not_enabled

    settings = DuQuantConfig.from_environ(os.environ)
    if settings is not None and settings.dry_run:
        list_layers(arguments.model_path, arguments.base)
    if os.environ.get(DRYRUN, "0").strip().lower() not in ("0", "false", "no", "off"):
        # GR00T_DUQUANT_ENABLE=0 beside it. Nothing to list, but a dry-run never serves.
        logger.info("[GR00T-DUQUANT] DuQuant not enabled: %s; nothing to list", why_not_enabled(os.environ))
        return
    if arguments.model_path is None:
        raise UsageError("--server needs --model-path: a checkpoint folder or model hub id")
    check_port_free(arguments.host, arguments.port)
    make_server = server_class(arguments)
    policy = load_policy(arguments, arguments.model_path)
    server = make_server(
        policy,
        host=arguments.host,
        port=arguments.port,
        api_token=arguments.api_token,
        max_batch=arguments.max_batch,
        info=server_info(arguments, policy),
    )
    logger.info("Serving %s; %s", describe(arguments, policy), server.address)
    logger.info(
        "Observations are computed %s",
        f"together, up to {server.max_batch} that wait" if server.is_batched else "one at a time",
    )
    server.run()


def server_class(arguments: Arguments) -> Any:
    """Return the server for the wanted language.

    Raises:
        UsageError: What it needs is not installed.
    """
    if not arguments.http_server:
        return RobotInferenceServer
    if importlib.util.find_spec("h11") is None:
        raise UsageError(
            "--http-server needs the package h11, which is not installed here; install it with "
            f"scripts/setup_env.sh core http, or {Path(sys.executable).name} -m pip install 'h11>=0.14'"
        )
    from gr00t.serving.http.server import HTTPInferenceServer

    return HTTPInferenceServer


def list_layers(model_path: str | None, base: str | None = None) -> NoReturn:
    """List what would be quantized, from the architecture alone, and end the program with status 0."""
    from gr00t.quantization.checkpoint.manifest import read_manifest

    manifest = read_manifest(Path(model_path)) if model_path is not None else None
    if manifest is not None:
        from gr00t.quantization.checkpoint.artefact import list_layers as list_artefact

        manifest.config(os.environ)
        list_artefact(manifest)
    from gr00t.model.structure import build_structure
    from gr00t.quantization import enable_duquant_if_configured

    model, aliases = build_structure(model_path, base)
    enable_duquant_if_configured(model, os.environ, aliases)
    raise AssertionError("a dry-run ends the program")


def load_policy(arguments: Arguments, model_path: str) -> Gr00tPolicy:
    """Return the complete policy, on its device and quantized as the environment says."""
    import torch

    from gr00t.experiment.checkpoint_data_config import choose_data_config
    from gr00t.model.policy import Gr00tPolicy

    _, data_config = choose_data_config(arguments.data_config, model_path, arguments.base)
    return Gr00tPolicy(
        model_path,
        arguments.embodiment_tag,
        data_config.modality_config(),
        data_config.transform(),
        arguments.denoising_steps,
        arguments.device,
        torch_dtype=getattr(torch, arguments.dtype),
        base=arguments.base,
        tokenizer=arguments.tokenizer,
        prompt_style=arguments.prompt_style,
        seed=arguments.seed,
        compiled=arguments.compile,
        environ=os.environ,
    )


def describe(arguments: Arguments, policy: Any) -> str:
    """Return what is served, in one line."""
    report = policy.quantization_report()
    quantized = f"NOT quantized, {arguments.dtype} throughout"
    if report["enabled"] and report["layers_quantized"]:
        bits = collections.Counter(
            layer["bits"] for layer in report["layers"].values() if layer["bits"] != "W16 A16"
        )
        counts = ", ".join(f"{count} x {kind}" for kind, count in bits.items())
        quantized = f"{report['layers_quantized']} layers quantized ({counts}), {arguments.dtype} elsewhere"
    return (
        f"{arguments.model_path}: {quantized}; prompt form {arguments.prompt_style}; "
        f"{policy.denoising_steps} denoising steps; device {policy.device}"
    )


def server_info(arguments: Arguments, policy: Any) -> dict[str, Any]:
    """Return what the endpoint `get_server_info` says of the policy."""
    from gr00t.experiment.checkpoint_data_config import served_data_config

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
        ),
    }


def ask(arguments: Arguments) -> None:
    """Send one example observation and print what comes back."""
    client = client_class(arguments)(arguments.host, arguments.port, api_token=arguments.api_token)
    with contextlib.closing(client):
        observation = example_of(describe_wanted(client, arguments))
        started = time.perf_counter()
        actions = client.get_action(observation, seed=arguments.seed)
        milliseconds = 1000 * (time.perf_counter() - started)
        for key, value in actions.items():
            print(f"{key}: {value.dtype} {value.shape}")
        print(f"{milliseconds:.1f} ms from {client.address}")


def client_class(arguments: Arguments) -> Any:
    """Return the client for the server's language."""
    return HTTPInferenceClient if arguments.http_server else ExternalRobotInferenceClient


def describe_wanted(client: Any, arguments: Arguments) -> dict[str, Any]:
    """Return how an observation for the server has to look: what it says, else what is known here."""
    try:
        info = client.get_server_info()
    except ServerError as error:
        if isinstance(error, StatusError) and error.status != HTTPStatus.NOT_FOUND:
            raise
        info = {}  # NVIDIA's server does not know the question
    if "observation" in info:
        return dict(info["observation"])
    from gr00t.experiment.checkpoint_data_config import choose_data_config

    _, data_config = choose_data_config(arguments.data_config, None)
    return describe_locally(
        data_config, arguments.model_path, arguments.embodiment_tag or EmbodimentTag.NEW_EMBODIMENT.value
    )


def is_message(error: Exception) -> bool:
    """Return whether our own code raised `error` for people to read: a traceback would only hide it."""
    if type(error).__module__.startswith("gr00t."):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = trace.tb_frame.f_globals["__name__"] if trace else ""
    return type(error) is ValueError and where.startswith("gr00t.")


def run_command_line() -> None:
    """Do what the command line says: status 0 if all went well, 2 for wrong flags, 1 for everything else."""
    arguments = tyro.cli(Arguments, description=__doc__)
    log_to_stderr()
    try:
        run(arguments)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not is_message(error):
            raise
        sys.exit(f"error: {error}")


def main() -> int:
    """Run as a program; at a signal the server answers, closes its port, and exit handlers run."""
    from gr00t.processes.ending import Ending, Stopped

    ending = Ending()
    try:
        run_command_line()
        return 0
    except Stopped:
        return ending.status
    finally:
        ending.close()


if __name__ == "__main__":
    raise SystemExit(main())
