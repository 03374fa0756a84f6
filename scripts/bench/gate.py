"""Is the gate before the simulator right? The drift of arms beside what they lost when they were played.

    python scripts/drift.py --model MODEL --arms recommended,w3a8 ... | tee drift.log
    python scripts/evaluate.py --model MODEL --arms bf16,recommended,w3a8 ... --output runs/wide
    python scripts/bench/gate.py drift.log runs/wide

Takes what both printed and wrote: the last line of the first file, and run folders. Every arm that has both
is a row, by ascending err. *Spearman* is the rank correlation of err and the difference in success, -1 where
the gate orders as the simulator does. An arm that passes and is inferior was missed, one that is rejected
and is non-inferior was a false alarm; most arms are undecided, and then only the difference says something.
The last line is JSON.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro
from scipy.stats import spearmanr

from gr00t.eval.statistics import compare, read_run
from gr00t.eval.statistics.summary import Verdicts

MISSED, FALSE_ALARM = "missed", "false alarm"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The drift of arms beside what they lost when they were played."""

    drift: tyro.conf.Positional[Path]
    """What gr00t-drift printed; its last line is read."""
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of gr00t-evaluate with the same arms."""
    baseline: str = "bf16"
    """Arm that the others are compared with."""


def main(arguments: Arguments) -> None:
    """Print the table, and the same as JSON in the last line."""
    drift = json.loads(arguments.drift.read_text().splitlines()[-1])
    verdicts = compare([read_run(folder) for folder in arguments.runs], baseline=arguments.baseline)
    found = rows(drift["arms"], verdicts)
    if len(found) < 3:
        raise SystemExit(
            f"error: {len(found)} arms have both a drift and pairs; a rank correlation takes three"
        )
    correlation = float(
        spearmanr([row["err"] for row in found], [row["difference"] for row in found]).statistic
    )
    print(table(found))
    print(f"\nSpearman of err and difference over {len(found)} arms: {correlation:+.2f}")
    print(json.dumps({"rows": found, "spearman": correlation}))


def rows(drifts: dict[str, Any], verdicts: Verdicts) -> list[dict[str, Any]]:
    """The arms that have both, by ascending err.

    Args:
        drifts: of each arm: `err`, `interval` and `verdict`, as `gr00t-drift` says them.
        verdicts: of the same arms.
    """
    found = []
    for arm in verdicts.arms:
        row = verdicts.row(arm.name)
        if arm.name not in drifts or row.comparison is None:
            continue
        drift, played = drifts[arm.name], row.comparison
        found.append(
            {
                "arm": arm.name,
                "err": drift["err"],
                "gate": drift["verdict"] or "",
                "successes": row.score.successes,
                "pairs": played.pairs,
                "difference": 100 * played.difference,
                "low": 100 * played.interval.low,
                "high": 100 * played.interval.high,
                "played": played.judgement.outcome,
                "wrong": wrong(drift["verdict"], played.judgement.outcome),
            }
        )
    return sorted(found, key=lambda row: row["err"])


def wrong(gate: str, played: str) -> str:
    """How the gate's verdict is contradicted by the simulator's; empty where it is not."""
    if gate == "pass" and played == "inferior":
        return MISSED
    if gate == "reject" and played == "non-inferior":
        return FALSE_ALARM
    return ""


def table(found: list[dict[str, Any]]) -> str:
    """The rows, as Markdown."""
    lines = [
        "| arm | err | gate | solved | difference, points | 95 % | at the margin | wrong |",
        "| --- | ---: | --- | ---: | ---: | --- | --- | --- |",
    ]
    for row in found:
        cells = [f"`{row['arm']}`", f"{row['err']:.4f}", row["gate"], f"{row['successes']} / {row['pairs']}"]
        cells += [f"{row['difference']:+.0f}", f"{row['low']:+.0f} to {row['high']:+.0f}"]
        lines.append(f"| {' | '.join([*cells, row['played'], row['wrong']])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
