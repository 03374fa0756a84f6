"""Play vla-eval's LIBERO or LIBERO-PRO on this machine, without a container, against a server that runs.

    gr00t-vla-eval libero.yaml
    gr00t-vla-eval libero.yaml --assets stand-ins -- --server-url ws://localhost:8001 --record-video
    gr00t-vla-eval pro.yaml --render gpu

The file is vla-eval's own; what follows -- are options of `vla-eval run`. The server is one that was started
with --wire vla-eval. LIBERO, its assets and what draws are those of this project's own runner; LIBERO-PRO is
downloaded where it is asked for (5 MB), and kept apart.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gr00t.cli.checks.needed import check_installed
from gr00t.cli.running import parse_command_line, run_program


@dataclasses.dataclass(frozen=True)
class VlaEvalArguments:
    """What to play, and what draws it."""

    config: Annotated[Path, tyro.conf.Positional]
    """vla-eval's YAML file."""
    assets: str = "auto"
    """auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), or one of them, or a folder."""
    render: Literal["cpu", "gpu"] = "cpu"
    """Draw with OSMesa, or with EGL on a GPU."""


def run(arguments: VlaEvalArguments, words: list[str]) -> int:
    """Go on as vla-eval."""
    check_installed(("mujoco", "robosuite", "libero", "yaml", "vla_eval"), "core", "libero", "vla-eval")
    from gr00t.cli.harnesses.setup import harness_run

    found = harness_run(
        arguments.config,
        words,
        os.environ,
        assets=arguments.assets,
        render=arguments.render,
    )
    print(f"assets: {found.assets}", flush=True)
    os.execve(sys.executable, [sys.executable, *found.program], dict(found.environ))


def main() -> int:
    """Run as a program: the status is vla-eval's, or 2 for wrong flags, 1 for what keeps it from starting."""
    words = sys.argv[1:]
    own, passed = words, list[str]()
    if "--" in words:
        at = words.index("--")
        own, passed = words[:at], words[at + 1 :]
    return run_program(lambda: run(parse_command_line(VlaEvalArguments, __doc__, own), passed))


if __name__ == "__main__":
    raise SystemExit(main())
