"""`--wire`: which languages are served, at which ports, and by which servers. Imports no torch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.cli.errors import UsageError
from gr00t.spelling import did_you_mean

DEFAULT_WIRE = "n1_5"
DEFAULT_PORT = 5555
HTTP = "http"
VLA_EVAL = "vla-eval"
_HARNESS_PORT = 8000  # where vla-eval and openpi look for a server
WIRES = {
    DEFAULT_WIRE: DEFAULT_PORT,
    HTTP: DEFAULT_PORT,
    "n1_6": DEFAULT_PORT,
    VLA_EVAL: _HARNESS_PORT,
    "openpi": _HARNESS_PORT,
}
# Wire -> the flag that asks for it, the packages that it needs beside the others, and their group.
_NEEDS = {
    HTTP: ("--http-server", {"h11": "h11>=0.14"}, "http"),
    VLA_EVAL: ("--wire vla-eval", {"websockets": "websockets>=13", "PIL": "pillow>=10"}, "websocket"),
    "openpi": ("--wire openpi", {"websockets": "websockets>=13"}, "websocket"),
}


@dataclass(frozen=True)
class WirePort:
    """A language and the port at which it is spoken."""

    name: str
    port: int


def chosen_wires(texts: Sequence[str], port: int | None, http_server: bool) -> list[WirePort]:
    """Return what `--wire`, `--port` and `--http-server` ask for.

    Args:
        texts: NAME or NAME:PORT, each; or several with commas between them.
        port: of the first wire that names none itself.
        http_server: N1.5's HTTP instead of its ZeroMQ.

    Raises:
        UsageError: no such wire, no port, or two wires at one port.
    """
    found: list[WirePort] = []
    for text in ",".join(texts or (DEFAULT_WIRE,)).split(","):
        name, colon, own = text.partition(":")
        if name not in WIRES:
            raise UsageError(f"--wire {text}: {did_you_mean(name, WIRES)}")
        if colon and not (own.isascii() and own.isdecimal() and int(own) < 65536):
            raise UsageError(f"--wire {text}: expected NAME or NAME:PORT, with a port from 0 to 65535")
        if http_server and name == DEFAULT_WIRE:
            name = HTTP
        number = int(own) if colon else WIRES[name]
        if not colon and port is not None:
            number, port = port, None
        for other in found:
            if number and other.port == number:
                raise UsageError(
                    f"--wire: {other.name} and {name} at port {number}; give each its own, as {name}:PORT"
                )
        found.append(WirePort(name, number))
    if http_server and HTTP not in [wire.name for wire in found]:
        raise UsageError(f"--http-server speaks N1.5's HTTP; with --wire name it {HTTP}")
    return found


def server_class(name: str) -> Any:
    """Return the server that speaks a wire.

    Raises:
        UsageError: What it needs is not installed.
    """
    check_installed(name)
    if name == HTTP:
        from gr00t.serving.http.server import HTTPInferenceServer

        return HTTPInferenceServer
    if name == "n1_6":
        from gr00t.serving.n1_6 import N16InferenceServer

        return N16InferenceServer
    if name == VLA_EVAL:
        from gr00t.serving.harnesses.vla_eval import VlaEvalServer

        return VlaEvalServer
    if name == "openpi":
        from gr00t.serving.harnesses.openpi import OpenPiServer

        return OpenPiServer
    from gr00t.serving.robot import RobotInferenceServer

    return RobotInferenceServer


def check_installed(name: str) -> None:
    """Raise a UsageError if a package that a wire needs is missing."""
    flag, packages, group = _NEEDS.get(name, ("", {}, ""))
    for module, package in packages.items():
        if importlib.util.find_spec(module) is None:
            python = Path(sys.executable).name
            raise UsageError(
                f"{flag} needs the package {module}, which is not installed here; install it with "
                f"scripts/setup_env.sh core {group}, or {python} -m pip install {package!r}"
            )
