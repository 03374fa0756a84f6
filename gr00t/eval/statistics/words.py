"""A verdict in plain words: one sentence per arm, and the notes without which its numbers mislead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gr00t.eval.statistics.intervals import wilson
from gr00t.eval.statistics.rows import Row
from gr00t.eval.statistics.runs import Run
from gr00t.eval.statistics.smoothness import rougher_words
from gr00t.eval.statistics.summary import Verdicts
from gr00t.eval.statistics.versions import UNKNOWN

# A control that keeps its eyes closed and reaches this share of the baseline's success makes a benchmark
# blunt.
BLIND_SHARE = 0.5

# The arm that shows how many pairs are discordant by rounding alone.
FLOOR = "bf16-again"

_BLIND = ("replay", "zero", "grey")

CONTROL_REASONS = {
    "replay": "One expert episode per task or prompt, executed with closed eyes. What it solves can be "
    "solved without looking, so success on those tasks says little about what a policy sees.",
    "grey": "The policy, shown one even grey by both cameras. What it solves, it solves without looking, by "
    "the instruction and its own pose.",
    "zero": "Holds still. What it solves was solved from the start, or solves itself.",
    "expert": "Scripted, with the simulator's own state. What it cannot solve says more about the scene, the "
    "limit of steps or the script than about a policy.",
}


def percent(rate: float | None) -> str:
    """A rate in [0, 1] as `93.0 %`."""
    return "-" if rate is None else f"{100 * rate:.1f} %"


def points(difference: float) -> str:
    """A difference of rates as signed percentage points, `-1.5`."""
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def p_value(value: float) -> str:
    """A p-value to two digits, or below .001."""
    return "< .001" if value < 0.001 else f"{value:.2g}"


def sentence(row: Row, verdicts: Verdicts) -> str:
    """What was found about an arm in one part of the benchmark."""
    found, base = row.comparison, verdicts.baseline
    if found is None:
        return f"{row.arm} and {base} have no episodes in common yet: nothing to compare."
    ours, theirs = (found.both + found.wins) / found.pairs, (found.both + found.losses) / found.pairs
    rates = (
        f"{row.arm} solves {percent(ours)} of {found.pairs:,} episodes of which {base} solves "
        f"{percent(theirs)}: {points(found.difference)} points, with 95 % confidence between "
        f"{points(found.interval.low)} and {points(found.interval.high)}."
    )
    if any(arm.is_control for arm in verdicts.arms if arm.name == row.arm):
        return f"{rates} It is a control, not to be judged."
    margin = f"{verdicts.margin:g} point{'' if verdicts.margin == 1 else 's'}"
    judgement = found.judgement
    if judgement.outcome == "non-inferior":
        meaning = f"It is not worse by {margin} or more."
        if found.interval.high < 0:
            meaning += " A smaller loss is real."
        elif found.interval.low > 0:
            meaning = "It is better."
    elif judgement.outcome == "inferior":
        meaning = f"It is worse by more than {margin}."
    elif judgement.by_looks:
        meaning = f"Whether it is worse by {margin} is {judgement}."
    elif judgement.more_pairs is None:
        meaning = f"Its difference lies at the margin of {margin}: no number of pairs would decide."
    else:
        meaning = (
            f"Whether it is worse by {margin} is not decided: about {judgement.more_pairs:,} more pairs "
            "needed."
        )
    return " ".join(filter(None, [rates, meaning, rougher_words(tuple(found.smoothness))]))


def progress(verdicts: Verdicts) -> str:
    """How much of what was planned has been played, as pairs; empty for a finished run."""
    if verdicts.is_finished:
        return ""
    parts = []
    for arm in verdicts.arms:
        row = verdicts.row(arm.name)
        if row.comparison is not None:
            parts.append(f"{arm.name} {row.comparison.pairs:,} of {row.planned:,} pairs")
        else:
            parts.append(f"{arm.name} {row.score.episodes:,} of {row.planned:,} episodes")
    return f"The run is not finished: {', '.join(parts)}."


def notes(verdicts: Verdicts, runs: Sequence[Run]) -> list[str]:
    """What a reader has to know before the numbers."""
    unfinished = progress(verdicts)
    found = [unfinished] if unfinished else []
    found += mixed(verdicts)
    found += _changed_arms(runs)
    if any(not look.counts for look in verdicts.looks):
        found.append(
            "A run here was played until it was decided, at another margin, against another arm, or without "
            "the other runs: what is below is judged as a fixed number of pairs is, and errs more often "
            "than it says."
        )
    found += _floor(verdicts) + _lost(verdicts) + _blind(verdicts) + _other_changes(verdicts, runs)
    tasks = len(verdicts.tasks)
    if tasks < 3 and len(verdicts.arms) > 1:
        found.append(
            f"{'One task' if tasks == 1 else 'Two tasks'} only: the intervals say nothing about other tasks."
        )
    return found


def simulator(verdicts: Verdicts) -> str:
    """What played, in one line."""
    told = [
        f"{package} {_listed(known)}" for package, known in verdicts.versions.items() if package != "bddl"
    ]
    return f"Played by {', '.join(told)}." if told else ""


def mixed(verdicts: Verdicts) -> list[str]:
    """A warning where versions of the simulator are mixed, or not known."""
    several = {package: known for package, known in verdicts.versions.items() if len(known) > 1}
    if several:
        told = ", ".join(f"{package} {_listed(known)}" for package, known in several.items())
        return [
            f"WARNING: episodes of different simulators are compared ({told}): a difference may be the "
            "simulator's, not the arm's."
        ]
    if UNKNOWN in verdicts.versions.get("mujoco", ()):
        return ["WARNING: which MuJoCo played these episodes is unknown."]
    return []


def _changed_arms(runs: Sequence[Run]) -> list[str]:
    """Arms that were not the same thing in two folders of the same suite."""
    seen: dict[tuple[str, str], tuple[Mapping[str, Any], str]] = {}
    found = []
    for run in runs:
        for name, facts in run.arms.items():
            identity = facts.identity
            if identity is None:
                continue
            known, there = seen.setdefault((name, run.suite), (identity, run.path.name))
            differing = sorted(
                part for part in known.keys() | identity.keys() if known.get(part) != identity.get(part)
            )
            if differing:
                found.append(
                    f"WARNING: {name} was not the same in {there} and {run.path.name}, by "
                    f"{', '.join(differing)}: its episodes are not those of one policy."
                )
    return found


def _lost(verdicts: Verdicts) -> list[str]:
    lost = {arm.name: verdicts.row(arm.name).score.simulator_errors for arm in verdicts.arms}
    told = ", ".join(f"{count} of {name}" for name, count in lost.items() if count)
    return [f"Episodes lost to simulator errors, in no rate and no pair: {told}."] if told else []


def _floor(verdicts: Verdicts) -> list[str]:
    """How often rounding alone makes an episode end otherwise."""
    if FLOOR not in [arm.name for arm in verdicts.arms] or verdicts.baseline == FLOOR:
        return []
    found = verdicts.row(FLOOR).comparison
    if found is None:
        return []
    flips = found.wins + found.losses
    share = wilson(flips, found.pairs)
    return [
        f"{FLOOR}, the same policy rounded otherwise, ends otherwise than {verdicts.baseline} in {flips} of "
        f"{found.pairs:,} pairs, {percent(flips / found.pairs)} (95 %: {100 * share.low:.1f} to "
        f"{100 * share.high:.1f}). So much discordance is chaos; only what an arm has beyond it is its own."
    ]


def _blind(verdicts: Verdicts) -> list[str]:
    base = verdicts.row(verdicts.baseline).score.rate
    found = []
    for arm in verdicts.arms:
        rate = verdicts.row(arm.name).score.rate
        if arm.is_control and arm.kind in _BLIND and base and rate and rate >= BLIND_SHARE * base:
            found.append(
                f"{arm.name} solves {percent(rate)} without looking, {verdicts.baseline} {percent(base)}: "
                "these episodes say little about vision."
            )
    return found


def _other_changes(verdicts: Verdicts, runs: Sequence[Run]) -> list[str]:
    """Arms that differ from the baseline in more than their quantization."""
    return _other_steps(verdicts, runs) + _other_sources(verdicts, runs)


def _other_sources(verdicts: Verdicts, runs: Sequence[Run]) -> list[str]:
    sources: dict[str, set[str]] = {arm.name: set() for arm in verdicts.arms}
    for run in runs:
        for name, facts in run.arms.items():
            told = (facts.identity or {}).get("sources")
            sources[name] |= {str(told)} if told else set()
    base = sources[verdicts.baseline]
    return [
        f"{name} was played with other sources than {verdicts.baseline} (hashes {_listed(own)} and "
        f"{_listed(base)}): the difference is not that of quantization alone."
        for name, own in sources.items()
        if own and base and own != base
    ]


def _other_steps(verdicts: Verdicts, runs: Sequence[Run]) -> list[str]:
    steps: dict[str, set[int]] = {arm.name: set() for arm in verdicts.arms}
    for run in runs:
        for record in run.records:
            if record.conditions.denoising_steps is not None:
                steps[record.key.arm].add(record.conditions.denoising_steps)
    base = steps[verdicts.baseline]
    return [
        f"{name} takes {_listed(own)} denoising steps, {verdicts.baseline} {_listed(base)}: the difference "
        "is not that of quantization alone."
        for name, own in steps.items()
        if own and base and own != base
    ]


def _listed(values: Iterable[int | str]) -> str:
    return " or ".join(map(str, sorted(values)))
