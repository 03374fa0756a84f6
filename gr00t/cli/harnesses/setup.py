"""What vla-eval needs to play LIBERO or LIBERO-PRO on this machine: a command, and its variables.

It runs them in a container that has LIBERO, its assets and a configuration file. Here these are what this
project's own runner uses: no container, nothing downloaded, no file of the user changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.cli.errors import UsageError
from gr00t.eval.arms.published import PUBLISHED
from gr00t.libero.assets.location import resolve_assets
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.tasks.perturbations import perturbed
from gr00t.libero.tasks.pro_package import pro_import_folder
from gr00t.libero.tasks.suites import SUITES, Suite, libero_package
from gr00t.spelling import did_you_mean

# What draws, by vla-eval's word for it.
BACKENDS = {"cpu": "osmesa", "gpu": "egl"}
LIBERO = "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"
LIBERO_PRO = "vla_eval.benchmarks.libero_pro.benchmark:LIBEROProBenchmark"
# vla-eval's other words for perturbations.
_KINDS = {"position": "swap", "language": "lan"}
_PLAYED = tuple(name for name in SUITES if name != "libero_object_prompts")


@dataclass(frozen=True)
class HarnessRun:
    """How vla-eval is started.

    Attributes:
        program: A Python program and its arguments, without the interpreter.
        environ: Its environment variables.
        assets: The assets that it draws with, in words.
    """

    program: Sequence[str]
    environ: Mapping[str, str]
    assets: str


def harness_run(
    config: Path,
    words: Sequence[str],
    environ: Mapping[str, str],
    *,
    assets: str = "auto",
    render: str = "cpu",
) -> HarnessRun:
    """Return how vla-eval is started.

    Args:
        config: Its YAML file.
        words: Further options of `vla-eval run`.
        environ: The variables to start from.
        assets: See `resolve_assets`.
        render: `cpu` or `gpu`.

    Raises:
        UsageError: The file cannot be read, or asks for what is not set up here.
        LiberoError: No assets, or nothing to draw with.
        WheelError: LIBERO-PRO is asked for and cannot be had.
    """
    benchmark, suites = _asked_for(config)
    # LIBERO-PRO's package has the name of the installed one: the first on the search path wins.
    first = [] if benchmark == LIBERO else [pro_import_folder(environ)]
    package = first[0] / "libero" / "libero" if first else libero_package()
    found = [resolve_assets(suite, package=package, environ=environ, choice=assets) for suite in suites]
    if len({one.path for one in found}) > 1:
        places = ", ".join(sorted({str(one) for one in found}))
        raise UsageError(
            f"{config}: its suites have assets in different places, {places}; give each its file"
        )
    backend = choose_backend(BACKENDS[render], environ)
    variables = simulator_environ(environ, backend=backend, package=package, assets=found[0].path)
    path = os.pathsep.join((*map(str, first), variables["PYTHONPATH"]))
    run = ("run", "--no-docker", "--render", render, "-c", str(config), *words)
    program = ("-m", "gr00t.cli.harnesses.inside", str(found[0].path), *run)
    return HarnessRun(program, {**environ, **variables, "PYTHONPATH": path}, str(found[0]))


def _asked_for(config: Path) -> tuple[str, list[Suite]]:
    """Return the benchmark of a file, and its suites."""
    defaults = {LIBERO: "libero_spatial", LIBERO_PRO: "libero_spatial_with_mug"}
    asked: dict[str, list[Suite]] = {}
    for entry in _benchmarks(config):
        benchmark = str(entry.get("benchmark"))
        if benchmark not in defaults:
            told = did_you_mean(benchmark, defaults)
            raise UsageError(f"{config}: benchmark {benchmark} is not set up here; {told}")
        params = entry.get("params")
        params = params if isinstance(params, dict) else {}
        name = str(params.get("suite", defaults[benchmark]))
        if benchmark == LIBERO_PRO and str(params.get("perturbation")).lower() != "none":
            name = perturbed(name, _KINDS.get(str(params["perturbation"]), str(params["perturbation"])))
        known = _PLAYED if benchmark == LIBERO_PRO else PUBLISHED
        if name not in known:
            raise UsageError(f"{config}: suite {name}: {did_you_mean(name, known)}")
        asked.setdefault(benchmark, []).append(SUITES[name])
    if len(asked) > 1:
        raise UsageError(f"{config}: LIBERO and LIBERO-PRO are packages of one name; give each its file")
    return next(iter(asked.items()))


def _benchmarks(config: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        told = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{config}: {error.strerror or error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{config}: no YAML: {' '.join(str(error).split()):.300}") from None
    entries = told.get("benchmarks") if isinstance(told, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{config}: expected a map with a list under 'benchmarks', as vla-eval has them")
    return entries
