"""Whether LIBERO can be evaluated on this machine, how fast, and what to do next.

    python scripts/libero_doctor.py
    python scripts/libero_doctor.py --json

Looks at what is installed, draws a real scene with every GL library in a process of its own, and looks for
assets, without downloading anything. The status is 0 if an evaluation can run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from doctor.check import Check
from doctor.installed import (
    SETUP,
    check_machine,
    check_packages,
    check_project,
    check_python,
    check_video,
    describe_choices,
)


def examine(environ: Mapping[str, str]) -> dict[str, Any]:
    """Run all checks.

    Returns:
        `ok` (whether an evaluation can run), `suites` (suite to the source of its assets), `workers`, `next`
        (commands) and `checks`.
    """
    machine, workers = check_machine()
    checks = [check_python(), check_project(), *check_packages(), machine, describe_choices(environ)]
    suites: dict[str, str] = {}
    if not any(check.stops for check in checks):
        try:
            found, suites = examine_simulator(environ)
            checks += found
        except ImportError as error:
            checks.append(Check("simulator", "missing", f"{error}", SETUP, needed=True))
    ok = bool(suites) and not any(check.stops for check in checks)
    return {
        "ok": ok,
        "suites": suites,
        "workers": workers,
        "next": advice(checks, suites, workers, ok),
        "checks": [dataclasses.asdict(check) for check in checks],
    }


def examine_simulator(environ: Mapping[str, str]) -> tuple[list[Check], dict[str, str]]:
    """The checks that import this project's simulator; it needs the packages.

    Raises:
        ImportError: a package is missing or broken.
    """
    from doctor.simulator import BACKENDS, check_assets, check_backend, check_light_robot

    robot = check_light_robot(environ)
    backends = [check_backend(name, environ, light=robot.status == "ok") for name in BACKENDS]
    works = [check.name for check in backends if check.status != "missing"]
    if not works:
        backends.append(Check("drawing", "missing", "no GL library works", backends[0].next, needed=True))
    assets, sources = check_assets(environ)
    return [*backends, robot, *assets, check_video()], sources


def advice(checks: list[Check], suites: Mapping[str, str], workers: int, ok: bool) -> list[str]:
    """Commands of this repository, in the order in which to run them."""
    if not ok:
        return list(dict.fromkeys(check.next for check in checks if check.stops and check.next))
    suite = "libero_object" if "libero_object" in suites else next(iter(suites))
    return [
        f"python scripts/evaluate.py --suite {suite} --arms expert --trials 1 --workers {workers}",
        f"python scripts/evaluate.py --suite {suite} --arms bf16,w4a8 --workers {workers}",
    ]


def tell(result: Mapping[str, Any]) -> str:
    """The result for people: a line per check, then the verdict."""
    lines = [str(Check(**check)) for check in result["checks"]]
    if result["ok"]:
        played = ", ".join(f"{suite} ({source})" for suite, source in result["suites"].items())
        lines += ["", f"An evaluation can run: {played}.", "Next:"]
    else:
        lines += ["", "An evaluation cannot run yet. Next:"]
    return "\n".join([*lines, *(f"    {command}" for command in result["next"])])


def main() -> int:
    """Print the findings; status 0 if an evaluation can run, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    arguments = parser.parse_args()
    result = examine(dict(os.environ))
    print(json.dumps(result) if arguments.json else tell(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
