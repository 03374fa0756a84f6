"""Servers among the arms: asked what they are before anything is measured, and compared with the base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gr00t.cli.errors import UsageError
from gr00t.cli.gate.arguments import DriftArguments
from gr00t.eval.arms.arms import Arm
from gr00t.eval.arms.facts import ServerDescription
from gr00t.eval.arms.hosts import AddressHost
from gr00t.eval.session.server_checks import say_what_it_is

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy

_WAIT_S = 10.0


def reach(arm: Arm, api_token: str | None) -> tuple[AddressHost, ServerDescription]:
    """Return a server, and what it says of itself.

    Raises:
        NoServerError: there is none.
        UsageError: it would calibrate on what it is judged by.
    """
    host = AddressHost(arm.host, arm.port, api_token, _WAIT_S)
    host.start()
    described = host.describe()
    host.remember(described)
    say_what_it_is(arm, described)
    if described.report.calibrating:
        raise UsageError(f"{arm.name}: the server calibrates on what it is asked; start it from packs")
    return host, described


def differences(described: ServerDescription, policy: Gr00tPolicy, arguments: DriftArguments) -> list[str]:
    """Return what a server says to be otherwise than the base is: it would be taken for drift.

    Args:
        described: what it says of itself.
        policy: the base.
        arguments: by which it was loaded.
    """
    from gr00t.experiment.checkpoint_data_config import served_data_config
    from gr00t.serving.identity import served_identity

    name, data_config = served_data_config(arguments.data_config, policy)
    info = described.info
    # Contents first: a checkpoint and a configuration have more than one name.
    mine = served_identity(
        policy.model_path,
        data_config,
        arguments.tokenizer,
        str(policy.device),
        policy.read_from,
        policy.file_hashes,
    )
    told = info.get("identity") or {}
    found = []
    # What was exported lies in another folder than what it was exported from.
    if not described.report.artefact and told.get("model") not in (None, mine["model"]):
        found.append(f"another checkpoint: {info.get('model_path')}, the base is {policy.model_path}")
    if told.get("data_config") not in (None, mine["data_config"]):
        found.append(f"another data configuration: {info.get('data_config')}, the base's is {name}")
    for key, value in (
        ("denoising_steps", policy.denoising_steps),
        ("embodiment_tag", policy.embodiment_name),
        ("prompt_style", arguments.prompt_style),
    ):
        if info.get(key) not in (None, value):
            found.append(f"{key} {info[key]}, the base's is {value}")
    return found
