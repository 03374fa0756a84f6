"""Whether LIBERO can be evaluated on this machine, how fast, and what to do next.

    python scripts/libero_doctor.py
    python scripts/libero_doctor.py --json
    python scripts/libero_doctor.py --settle libero_spatial

Looks at what is installed, draws a real scene with every GL library in a process of its own, and looks for
assets, without downloading anything. The status is 0 if an evaluation can run.

With --settle SUITE (or all) it lets every recorded initial state of the suite come to rest instead, and
compares where the objects lie with a table that ships with this project: another MuJoCo may play another
benchmark. The status is 0 if all lie where they should. This takes minutes a suite.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gr00t.cli.checks.check import Check
from gr00t.cli.checks.installed import (
    SETUP,
    check_machine,
    check_packages,
    check_project,
    check_python,
    check_video,
    describe_choices,
)
from gr00t.cli.running import run_program

if TYPE_CHECKING:
    from gr00t.cli.checks.assets import AssetsSource


def examine(environ: Mapping[str, str]) -> dict[str, Any]:
    """Run all checks.

    Returns:
        `ok` (whether an evaluation can run), `suites` (suite to the kind of its assets), `fingerprints` (of
        these assets, by suite), `workers`, `next` (commands) and `checks`.
    """
    machine, workers = check_machine()
    checks = [check_python(), check_project(), *check_packages(), machine, describe_choices(environ)]
    sources: dict[str, AssetsSource] = {}
    if not any(check.stops for check in checks):
        try:
            found, sources = examine_simulator(environ)
            checks += found
        except ImportError as error:
            checks.append(Check("simulator", "missing", f"{error}", SETUP, needed=True))
    suites = {suite: source.kind for suite, source in sources.items()}
    ok = bool(suites) and not any(check.stops for check in checks)
    return {
        "ok": ok,
        "suites": suites,
        "fingerprints": {suite: source.fingerprint for suite, source in sources.items()},
        "workers": workers,
        "next": advice(checks, suites, workers, ok),
        "checks": [dataclasses.asdict(check) for check in checks],
    }


def examine_simulator(environ: Mapping[str, str]) -> tuple[list[Check], dict[str, AssetsSource]]:
    """The checks that import this project's simulator; it needs the packages.

    Raises:
        ImportError: a package is missing or broken.
    """
    from gr00t.cli.checks.assets import check_assets, check_libero_pro
    from gr00t.cli.checks.settling import check_settling
    from gr00t.cli.checks.simulator import BACKENDS, check_backend, check_light_robot

    robot = check_light_robot(environ)
    backends = [check_backend(name, environ, light=robot.status == "ok") for name in BACKENDS]
    works = [check.name for check in backends if check.status != "missing"]
    if not works:
        helps = backends[0].next or backends[0].detail
        backends.append(Check("drawing", "missing", "no GL library works", helps, needed=True))
    assets, sources = check_assets(environ)
    return [*backends, robot, *assets, check_libero_pro(environ), check_settling(), check_video()], sources


def advice(checks: list[Check], suites: Mapping[str, str], workers: int, ok: bool) -> list[str]:
    """What to do, in that order: commands of this repository, or what is wrong where no command helps."""
    if not ok:
        return list(dict.fromkeys(check.next or check.detail for check in checks if check.stops))
    suite = "libero_object" if "libero_object" in suites else next(iter(suites))
    # What a published checkpoint has seen comes before it.
    looks = [check.next for check in checks if check.name == "assets: packages" and check.next]
    return [
        f"python scripts/evaluate.py --suite {suite} --arms expert --trials 1 --workers {workers}",
        *(looks if suites[suite] == "stand-ins" else []),
        f"python scripts/evaluate.py --suite {suite} --arms bf16,w4a8 --workers {workers}",
    ]


def tell(result: Mapping[str, Any]) -> str:
    """The result for people: a line per check, then the verdict."""
    lines = [str(Check(**check)) for check in result["checks"]]
    if result["ok"]:
        lines += ["", "An evaluation can run. Suites, and what would be drawn:"]
        hashes = result["fingerprints"]
        lines += [f"    {suite:<24}{kind} {hashes[suite]}" for suite, kind in result["suites"].items()]
        lines += ["Next:"]
    else:
        lines += ["", "An evaluation cannot run yet. Next:"]
    return "\n".join([*lines, *(f"    {command}" for command in result["next"])])


def settle(suites: str, record: Path | None, as_json: bool, environ: Mapping[str, str]) -> int:
    """Settle the recorded states of suites, or record the table; return the exit status.

    Raises:
        LiberoError, SimulatorError, OSError: there is no such suite, or it cannot be settled or recorded.
    """
    try:
        from gr00t.cli.checks.settling import examine_settling, parse_suites
        from gr00t.cli.checks.settling import record as write
    except ImportError as error:
        print(f"error: {error}; run: {SETUP}", file=sys.stderr)
        return 1
    names = parse_suites(suites)
    if record is not None:
        write(record, environ)
        return 0
    result = examine_settling(names, environ)
    told = f"MuJoCo {result['mujoco']}; the table was recorded under {result['expected_mujoco']}."
    print(json.dumps(result) if as_json else told)
    return 0 if result["ok"] else 1


def run() -> int:
    """Print the findings; return the exit status."""
    # What is missing may be tyro.
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--settle", metavar="SUITE", help="compare where the objects of a suite come to rest")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="with --settle all: write the table instead of comparing"
    )
    arguments = parser.parse_args()
    if arguments.record is not None and arguments.settle != "all":
        parser.error("--record needs --settle all: the table is of all suites")
    if arguments.settle is not None:
        return settle(arguments.settle, arguments.record, arguments.json, dict(os.environ))
    result = examine(dict(os.environ))
    print(json.dumps(result) if arguments.json else tell(result))
    return 0 if result["ok"] else 1


def main() -> int:
    """Run as a program: status 0 if an evaluation can run, 1 if not."""
    return run_program(run, logs=False)


if __name__ == "__main__":
    raise SystemExit(main())
