"""Run folders as they are read for a verdict, and the refusal to join what was not played alike.

A run folder holds `plan.json` (what was asked), `arms/NAME.json` (what each arm turned out to be) and
`episodes.jsonl`. It may still be running. Several folders make one table when they agree in all that
changes results: other suites, seeds or initial states are more rows and more pairs, other meshes or another
MuJoCo are another benchmark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.eval.arms.arms import CONTROLS
from gr00t.eval.arms.facts import ArmFacts
from gr00t.eval.arms.recipes import GREY
from gr00t.eval.interim.records import Look, LookPlan, look_plan, read_looks
from gr00t.eval.rollout.records import EpisodeRecord, read_records
from gr00t.eval.rollout.run_files import read_arm, read_plan
from gr00t.eval.statistics.versions import check_versions
from gr00t.libero.tasks.suites import LiberoError
from gr00t.serving.identity import digest
from gr00t.spelling import did_you_mean

# Kinds of arms that stand beside those that are to be judged.
CONTROL_KINDS = (*CONTROLS, GREY)
# Equal in all records of a table. The limit of steps is the suite's own, so it may differ between suites.
CONDITIONS = ("assets", "rendering", "placement", "replan_steps")
CONDITIONS_OF_A_SUITE = ("assets_fingerprint", "max_steps")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        path: The folder; videos and thumbnails of its records are relative to it.
        plan: `plan.json`.
        arms: `arms/NAME.json` by the arm's name, for every arm that was started.
        records: Its finished episodes.
        look_plan: When it is looked at, if it plays until it is decided.
        looks: The last look at each arm, by its name.
    """

    path: Path
    plan: Mapping[str, Any]
    arms: Mapping[str, ArmFacts]
    records: Sequence[EpisodeRecord]
    look_plan: LookPlan | None = None
    looks: Mapping[str, Look] = dataclasses.field(default_factory=dict)

    @property
    def arm_names(self) -> list[str]:
        """The arms in the order in which they were asked for."""
        return list(self.plan["arms"])

    @property
    def suite(self) -> str:
        """The suite that it plays."""
        return str(self.plan["suite"])

    def planned_episodes(self, arm: str, task: int | None = None) -> int:
        """Episodes that an arm is to play, of all tasks or of one: every initial state under every seed.

        Where looks decide how many, those up to the last look at the arm, which may be still to come.
        """
        tasks = len(self.plan["tasks"]) if task is None else int(task in self.plan["tasks"])
        if self.look_plan is None:
            return tasks * len(self.plan["init_states"]) * len(self.plan["seeds"])
        return tasks * (self._pairs_wanted(arm, self.look_plan) // len(self.plan["tasks"]))

    def _pairs_wanted(self, arm: str, plan: LookPlan) -> int:
        if arm == plan.baseline:
            others = [name for name in self.arm_names if name != arm]
            return max((self._pairs_wanted(name, plan) for name in others), default=plan.max_pairs)
        last = self.looks.get(arm)
        return plan.pairs[last.number - 1] if last is not None and last.is_last else plan.max_pairs

    def kind(self, name: str) -> str:
        """What acts: a policy's `recipe`, a server's `address`, or one of `CONTROL_KINDS`."""
        arm = self.plan["arms"][name]
        return GREY if arm.get("images") == GREY else str(arm["kind"])


def read_run(folder: Path) -> Run:
    """Read a run folder, finished or not.

    Raises:
        LiberoError: if a file is missing or not what it should be; the message names it.
    """
    try:
        plan = read_plan(folder / "plan.json")
    except FileNotFoundError:
        raise LiberoError(f"{folder} is not the folder of a run: {folder / 'plan.json'} is missing") from None
    episodes = folder / "episodes.jsonl"
    records = read_records(episodes, plan) if episodes.exists() else []
    arms = {}
    for name in plan["arms"]:
        path = folder / "arms" / f"{name}.json"
        own = [record for record in records if record.key.arm == name]
        if path.exists():
            arms[name] = read_arm(path, name)
            played = [record for record in own if record.was_played]
            _check_arm(arms[name], plan["arms"][name], played, path)
        elif own:
            raise LiberoError(f"{episodes} has episodes of arm {name!r}, but {path} is missing")
    looks = look_plan(plan, folder / "plan.json")
    seen = {} if looks is None else read_looks(folder, looks)
    return Run(folder, plan, arms, records, looks, seen)


def _check_arm(
    facts: ArmFacts, planned: Mapping[str, Any], records: Sequence[EpisodeRecord], path: Path
) -> None:
    """Refuse records of an arm that are not of what its description tells."""
    if facts.kind != planned["kind"]:
        raise LiberoError(f"{path}: kind: {facts.kind!r}, but {planned['kind']!r} in plan.json")
    identities = sorted({str(record.conditions.identity) for record in records})
    if len(identities) > 1:
        raise LiberoError(
            f"{path.parent.parent / 'episodes.jsonl'}: the episodes of arm {facts.name!r} were played by "
            f"different things of this name: identities {', '.join(identities)}"
        )
    names = {"denoising_steps", "quantized_layers"} & facts.model_fields_set
    told = {name: getattr(facts, name) for name in sorted(names)}
    if facts.identity is not None:
        told["identity"] = digest(facts.identity)
    episodes = path.parent.parent / "episodes.jsonl"
    for record in records:
        for name, value in told.items():
            found = getattr(record.conditions, name)
            if found != value:
                raise LiberoError(
                    f"{episodes}: {record.key.episode} of arm {record.key.arm!r} has {name} {found!r}, but "
                    f"{path} tells {value!r}"
                )


def check_comparable(runs: Sequence[Run], *, allow_mixed: bool = False) -> None:
    """Refuse runs whose records do not belong into one table.

    Args:
        runs: All of the table.
        allow_mixed: Whether other versions of MuJoCo, robosuite and LIBERO may meet in it.

    Raises:
        LiberoError: naming both sides: another condition or version, another arm of the same name, an episode
            twice.
    """
    if not allow_mixed:
        check_versions(runs)
    conditions: dict[tuple[str, ...], tuple[Any, str]] = {}
    arms: dict[str, tuple[Mapping[str, Any], Path]] = {}
    episodes: dict[Any, Path] = {}
    for run in runs:
        for name, arm in run.plan["arms"].items():
            known, folder = arms.setdefault(name, (arm, run.path))
            for field in sorted(known.keys() | arm.keys()):
                if known.get(field) != arm.get(field):
                    raise LiberoError(
                        f"arm {name!r} is not the same in both folders: {field} is {known.get(field)!r} in "
                        f"{folder}, but {arm.get(field)!r} in {run.path}"
                    )
        for record in run.records:
            _check_conditions(record, run.path, conditions)
            key = (record.conditions.placement, record.key)
            if key in episodes:
                raise LiberoError(
                    f"{record.key.episode} of arm {record.key.arm!r} is in {episodes[key]} and again in "
                    f"{run.path}"
                )
            episodes[key] = run.path


def _check_conditions(
    record: EpisodeRecord, folder: Path, seen: dict[tuple[str, ...], tuple[Any, str]]
) -> None:
    here = f"arm {record.key.arm!r}, {record.key.episode} in {folder}"
    for field in CONDITIONS + CONDITIONS_OF_A_SUITE:
        scope = (field,) if field in CONDITIONS else (field, record.key.suite)
        value = getattr(record.conditions, field)
        known, there = seen.setdefault(scope, (value, here))
        if value != known:
            raise LiberoError(
                f"these were not played alike and make no common table: {field} is {known!r} ({there}), "
                f"but {value!r} ({here})"
            )


def find_arm(name: str, arms: Iterable[str]) -> str:
    """Return `name` if it is one of the arms.

    Raises:
        LiberoError: with the nearest name, if it is not.
    """
    names = list(arms)
    if name not in names:
        raise LiberoError(f"no arm {name!r} in this run: {did_you_mean(name, names)}")
    return name
