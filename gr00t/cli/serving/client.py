"""Ask a running server for one action, by an observation made for it."""

from __future__ import annotations

import contextlib
import time
from http import HTTPStatus
from typing import Any

from gr00t.cli.errors import UsageError
from gr00t.cli.serving.arguments import ServeArguments
from gr00t.cli.serving.wires import DEFAULT_WIRE, HTTP, chosen_wires
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.serving.client import ExternalRobotInferenceClient, ServerError
from gr00t.serving.example_request import describe_locally, example_of
from gr00t.serving.http.client import HTTPInferenceClient, StatusError

# Wire -> what asks over it.
CLIENTS: dict[str, Any] = {DEFAULT_WIRE: ExternalRobotInferenceClient, HTTP: HTTPInferenceClient}


def ask(arguments: ServeArguments) -> None:
    """Send one example observation and print what comes back."""
    (wire, *others) = chosen_wires(arguments.wire, arguments.port, arguments.http_server)
    if others or wire.name not in CLIENTS:
        raise UsageError(f"--client speaks one of {', '.join(CLIENTS)}; other clients have servers of theirs")
    client = CLIENTS[wire.name](arguments.host, wire.port, api_token=arguments.api_token)
    with contextlib.closing(client):
        observation = example_of(describe_wanted(client, arguments))
        started = time.perf_counter()
        actions = client.get_action(observation, seed=arguments.seed)
        milliseconds = 1000 * (time.perf_counter() - started)
        for key, value in actions.items():
            print(f"{key}: {value.dtype} {value.shape}")
        print(f"{milliseconds:.1f} ms from {client.address}")


def describe_wanted(client: Any, arguments: ServeArguments) -> dict[str, Any]:
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
