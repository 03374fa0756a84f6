"""What is told of the arms: a table, how each was quantized, and the same as plain data."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

from gr00t.cli.gate.answers import Answers
from gr00t.cli.serving.policy import counted_layers
from gr00t.eval.drift.measure import Drift
from gr00t.eval.drift.verdict import FITTED_ON, PASS_UP_TO, REJECT_FROM, Verdict, verdict

_HEAD = f"{'err':>9}  {'95 %':>15}  {'p90':>7}  {'gripper flips':>13}  {'jerk':>6}  verdict"


def judged(answers: Answers, found: Drift) -> Verdict | None:
    """The verdict on an arm; None where nothing is quantized: nobody is to read a pass of what was not tried.

    A server that does not tell what it is has one: its actions are judged, whatever makes them.
    """
    return None if answers.quantization.get("enabled") is False else verdict(found.err, found.interval)


def table(answers: Mapping[str, Answers], drifts: Mapping[str, Drift]) -> str:
    """A row for each arm."""
    width = max(map(len, ["arm", *drifts]))
    lines = [f"{'arm':<{width}}  {_HEAD}"]
    for name, found in drifts.items():
        interval = f"{found.interval.low:.4f}-{found.interval.high:.4f}"
        flips = "" if found.flips is None else f"{100 * found.flips:.1f} %"
        jerk = "" if found.jerk is None else f"{found.jerk:.3f}"
        lines.append(
            f"{name:<{width}}  {found.err:9.4f}  {interval:>15}  {found.p90:7.3f}  {flips:>13}  {jerk:>6}  "
            f"{judged(answers[name], found) or 'not quantized'}"
        )
    lines.append(
        f"\npass: err up to {PASS_UP_TO:g}, its 95 % below {REJECT_FROM:g}; reject: err from "
        f"{REJECT_FROM:g}. These thresholds were fitted on {FITTED_ON}: another one may bear more, or less."
    )
    return "\n".join(lines)


def described(answers: Answers) -> dict[str, Any]:
    """How an arm was quantized, as plain data: layers by bits, rounding and kernels."""
    report = answers.quantization
    layers = list((report.get("layers") or {}).values())
    return {
        "layers": report.get("layers_quantized") or 0,
        "bits": dict(collections.Counter(layer.get("bits") for layer in layers)),
        "rounding": dict(collections.Counter(layer.get("rounding") for layer in layers)),
        "activation_scales": dict(collections.Counter(layer.get("activation_scale") for layer in layers)),
        "sums": dict(collections.Counter(layer.get("accumulator") for layer in layers)),
        "transforms": dict(collections.Counter(layer.get("transformer") for layer in layers)),
        "linear_bytes": report.get("linear_bytes"),
        "layers_sha256": report.get("layers_sha256"),
        "calibrated": answers.calibrated,
    }


def how(name: str, answers: Answers) -> str:
    """The same in one line."""
    layers = counted_layers(answers.quantization, "layers")
    if layers is None:
        return f"{name}: not quantized"
    facts = described(answers)
    parts = [layers]
    for key, words in (
        ("rounding", "rounded {}"),
        ("activation_scales", "scales {}"),
        ("sums", "sums by {}"),
        ("transforms", "transforms by {}"),
    ):
        counts = facts[key]
        parts.append(words.format(_counted(counts)))
    calibrated = answers.calibrated or "nothing"
    return f"{name}: {', '.join(parts)}; calibrated by {calibrated}"


def _counted(counts: Mapping[str | None, int]) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return " and ".join(f"{count} x {value}" for value, count in counts.items())
