"""Calibrate DuQuant: record what the layers of the unquantized policy are called with, and write packs by it.

A server started with the same GR00T_DUQUANT_* settings, checkpoint, --dtype and PACKDIR then restores the
transforms, the codes and the static activation scales, and calibrates nothing on the requests that it serves.
The observations come from one of:

--libero SUITE       rollouts of the policy itself, on initial states that evaluations do not use
--observations FILE  a file that --save wrote, or that a client recorded (gr00t/serving/observation_file.py)
--synthetic N        N random observations: a smoke test, not a calibration worth evaluating

The last line of the output is a report as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from gr00t.cli.calibration.arguments import CalibrateArguments
from gr00t.cli.running import run_command


def table(report: Mapping[str, Any]) -> str:
    """Return the report for people: a row per kind of layer, and the sum."""
    lines = [f"{'kind':<12}{'layers':>8}{'informed':>10}{'feedback':>10}{'static':>8}{'pack bytes':>16}"]
    for kind, row in [*report["kinds"].items(), ("all", report)]:
        counts = f"{row['layers']:>8}{row['informed']:>10}{row['feedback']:>10}"
        counts += f"{row['static']:>8}{row['pack_bytes']:>16,}"
        lines.append(f"{kind:<12}{counts}")
    seconds = ", ".join(f"{stage} {value:g} s" for stage, value in report["seconds"].items())
    lines.append(f"{seconds}; peak memory {report['peak_bytes'] / 1e9:.2f} GB")
    return "\n".join(lines)


def run(arguments: CalibrateArguments) -> None:
    """Calibrate, and say what there is."""
    from gr00t.cli.calibration.program import calibrate

    report = calibrate(arguments, os.environ)[1]
    print(table(report))
    print(json.dumps(report))


def main() -> int:
    """Run as a program: status 0 when the packs are there, 2 for wrong flags, 1 for everything else."""
    return run_command(CalibrateArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
