"""What the arms were and how everything was played, as rows of text for a reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gr00t.eval.arms.facts import QuantizationReport
from gr00t.eval.statistics.runs import Run
from gr00t.eval.statistics.summary import Verdicts

# Parts of a quantization report that have a table of their own.
_PROVEN = (
    "enabled",
    "layers",
    "layers_quantized",
    "linear_bytes",
    "linear_bytes_before",
    "model_bytes",
    "model_bytes_before",
)
# Parts of a plan that the records tell as well.
_PLAYED = (
    "arms",
    "assets",
    "assets_fingerprint",
    "gl_backend",
    "init_states",
    "max_steps",
    "placement",
    "rendering",
    "replan_steps",
    "seeds",
    "suite",
    "tasks",
)


@dataclass(frozen=True)
class Fact:
    """One line: a name and a value per column."""

    name: str
    values: Sequence[str]

    @property
    def differs(self) -> bool:
        """Whether the columns say different things."""
        return len(set(self.values)) > 1


def compared(verdicts: Verdicts) -> list[str]:
    """The arms whose configuration matters: all but the controls."""
    return [arm.name for arm in verdicts.arms if not arm.is_control]


def configuration(verdicts: Verdicts, runs: Sequence[Run]) -> list[Fact]:
    """Everything that `arms/NAME.json` and the records say about an arm, a column for each of `compared`."""
    columns = []
    for arm in compared(verdicts):
        told: dict[str, list[str]] = {}
        for run in runs:
            for name, value in _flat(_with_records(run, arm)).items():
                told.setdefault(name, []).append(value)
        columns.append({name: " | ".join(dict.fromkeys(values)) for name, values in told.items()})
    names = dict.fromkeys(name for column in columns for name in column)
    return [Fact(name, [column.get(name, "-") for column in columns]) for name in names]


def protocol(runs: Sequence[Run]) -> list[Fact]:
    """How the episodes were played: the same for all arms, one value per line."""
    records = [record for run in runs for record in run.records]
    found = {
        "suites, limit of steps": _each(f"{r.key.suite}: {r.conditions.max_steps}" for r in records),
        "initial states": _each(_states(run) for run in runs),
        "seeds": _each(r.key.seed for r in records),
        "placement": _each(r.conditions.placement for r in records),
        "actions executed per query": _each(r.conditions.replan_steps for r in records),
        "assets": _each(
            f"{r.conditions.assets} ({r.key.suite}: {r.conditions.assets_fingerprint})" for r in records
        ),
        "rendering": _each(f"{r.conditions.rendering}, {r.conditions.gl_backend}" for r in records),
    }
    versions: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.conditions.versions.items():
            versions.setdefault(package, set()).add(version)
    for package, known in sorted(versions.items()):
        found[f"version: {package}"] = ", ".join(sorted(known))
    for run in runs:
        for name, value in _flat({k: v for k, v in run.plan.items() if k not in _PLAYED}).items():
            found[name] = value if found.get(name, value) == value else f"{found[name]} | {value}"
    found["folders"] = _each(run.path.resolve().name for run in runs)
    return [Fact(name, [value]) for name, value in found.items()]


def quantization(verdicts: Verdicts, runs: Sequence[Run]) -> list[Fact]:
    """The few numbers that prove quantization: layers, bits, kernels and bytes; columns as above."""
    reports = [
        next((run.arms[arm].quantization for run in runs if arm in run.arms), None)
        for arm in compared(verdicts)
    ]
    names = (
        "quantized layers",
        "bits",
        "kernels",
        "activation scales",
        "bytes of these layers",
        "bytes of the model",
    )
    rows = [Fact(name, [_proof(report).get(name, "-") for report in reports]) for name in names]
    return [row for row in rows if set(row.values) != {"-"}]


def _proof(report: QuantizationReport | None) -> dict[str, str]:
    if report is None:
        return {}
    if not report.enabled:
        return {"quantized layers": "0: not quantized"}
    layers = report.layers.values()
    return {
        "quantized layers": "-" if report.layers_quantized is None else str(report.layers_quantized),
        "bits": _counted(layer.get("bits") for layer in layers),
        "kernels": _counted(layer.get("accumulator") for layer in layers),
        "activation scales": _counted(layer.get("activation_scale") for layer in layers),
        "bytes of these layers": _before_and_now(report.linear_bytes_before, report.linear_bytes),
        "bytes of the model": _before_and_now(report.model_bytes_before, report.model_bytes),
    }


def _counted(values: Iterable[Any]) -> str:
    counts = Counter(str(value) for value in values if value is not None)
    return ", ".join(f"{value} ({count})" for value, count in counts.most_common()) or "-"


def _before_and_now(before: int | None, now: int | None) -> str:
    return f"{now:,}, {now / before:.2f} of {before:,}" if before and now is not None else "-"


def _with_records(run: Run, arm: str) -> dict[str, Any]:
    """The arm's own description; its layers are counted elsewhere, here are too many to read."""
    facts = run.arms[arm].told() if arm in run.arms else dict(run.plan["arms"].get(arm, {}))
    facts.pop("name", None)
    if facts.get("quantization"):
        told = facts["quantization"].items()
        facts["quantization"] = {key: value for key, value in told if key not in _PROVEN}
    records = [record for record in run.records if record.key.arm == arm]
    facts.setdefault("denoising_steps", None)
    if facts["denoising_steps"] is None:
        facts["denoising_steps"] = _each(
            r.conditions.denoising_steps for r in records if r.conditions.denoising_steps is not None
        )
    return facts


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested values under dotted names, as text."""
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _flat(item, f"{name}.{key}" if name else str(key))
        return found
    if value is None or value in ("", []):
        return {}
    if isinstance(value, list):
        return {name: ", ".join(map(str, value))}
    return {name: {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)}


def _states(run: Run) -> str:
    states = sorted(run.plan["init_states"])
    if len(states) > 1 and states == list(range(states[0], states[-1] + 1)):
        return f"{run.suite}: {states[0]} to {states[-1]}"
    return f"{run.suite}: {', '.join(map(str, states))}"


def _each(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
