"""The plan of looks in `plan.json`, and one line of `looks.jsonl` for each arm at each look.

A line is a decision: it stands, also when an episode that the simulator lost is played later. So a run that
goes on, and its report, read what was decided and do not decide it anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from gr00t.eval.arms.checked import ArmName, Checked, Count, Positive
from gr00t.files.output_folder import writing
from gr00t.libero.tasks.suites import LiberoError
from gr00t.strict_json import parse_json
from gr00t.validation import first_of

FILE = "looks.jsonl"
# Of plan.json.
KEY = "until_decided"
Decision = Literal["non-inferior", "inferior", "hopeless", "undecided", "control", "goes on"]
_Rate = Field(ge=-1, le=1)


class LookPlan(Checked):
    """All looks of a run, fixed before its first episode.

    Attributes:
        rule: How the error is spent.
        alpha: The one-sided error over all looks.
        margin: In percentage points.
        baseline: The arm that the others are compared with.
        order_seed: Of the order in which pairs are played.
        pairs: Played at each look, increasing.
        critical: The value of z at each look.
    """

    rule: str
    alpha: float = Field(gt=0, lt=0.5)
    margin: float = Field(gt=0, lt=100)
    baseline: ArmName
    order_seed: Count
    pairs: list[Positive] = Field(min_length=1)
    critical: list[float] = Field(min_length=1)

    @model_validator(mode="after")
    def _as_many(self) -> LookPlan:
        if len(self.pairs) != len(self.critical) or sorted(set(self.pairs)) != self.pairs:
            raise ValueError("expected increasing pairs and as many critical values")
        return self

    @property
    def max_pairs(self) -> int:
        """Pairs of the last look."""
        return self.pairs[-1]


class Look(Checked):
    """One arm at one look.

    Attributes:
        arm: Its name.
        number: Of the look, from 1 on.
        pairs: Played by both arms.
        lost: Those of the plan that the simulator lost.
        wins: Pairs that only the arm solves.
        losses: Pairs that only the baseline solves.
        difference: Of the success rates, arm - baseline.
        low: The lower bound at this look's critical value; the bounds of all looks hold together.
        high: The upper one.
        decision: What follows.
    """

    arm: ArmName
    number: Positive
    pairs: Count
    lost: Count
    wins: Count
    losses: Count
    difference: float = _Rate
    low: float = _Rate
    high: float = _Rate
    decision: Decision

    @property
    def is_last(self) -> bool:
        """Whether the arm plays no more."""
        return self.decision != "goes on"


def look_plan(plan: dict[str, Any] | Any, where: Path) -> LookPlan | None:
    """The plan of looks in what `plan.json` says; None for a run of a fixed number of episodes.

    Raises:
        LiberoError: there is one, but not as it was written.
    """
    if KEY not in plan:
        return None
    try:
        return LookPlan.model_validate(plan[KEY])
    except ValidationError as error:
        raise LiberoError(f"{where}: {KEY}.{first_of(error)}") from None


def read_looks(folder: Path, plan: LookPlan) -> dict[str, Look]:
    """The last look at each arm, by its name; a last line that a kill cut off is left out.

    Raises:
        LiberoError: a line is no look, or not the next one of its arm.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    if not path.is_file():
        raise LiberoError(f"{path}: expected a file")
    found: dict[str, Look] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        where = f"{path}:{number}"
        try:
            look = Look.model_validate(parse_json(line.decode("utf-8")))
        except ValidationError as error:
            raise LiberoError(f"{where}: {first_of(error)}") from None
        except ValueError as error:
            raise LiberoError(f"{where}: not JSON: {error}") from None
        before = found.get(look.arm)
        expected = 1 if before is None else before.number + 1
        ended = before is not None and before.is_last
        if ended or look.number != expected or look.number > len(plan.pairs):
            raise LiberoError(f"{where}: look {look.number} at {look.arm} does not follow what is before it")
        found[look.arm] = look
    return found


class LookLog:
    """The looks of a run whose folder this process holds.

    Args:
        folder: Of the run.
        plan: Of its looks.
    """

    def __init__(self, folder: Path, plan: LookPlan) -> None:
        self._path = folder / FILE
        self.plan = plan
        self.last = read_looks(folder, plan)
        if self._path.exists():
            content = self._path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with writing(folder, "--output"):
                    os.truncate(self._path, whole)

    def next_number(self, arm: str) -> int | None:
        """Number of the next look at an arm; None where it has ended."""
        last = self.last.get(arm)
        if last is None:
            return 1
        return None if last.is_last else last.number + 1

    def add(self, look: Look) -> None:
        """Keep a look. When this returns, the disk has it."""
        with writing(self._path.parent, "--output"), self._path.open("a", encoding="utf-8") as file:
            file.write(look.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.last[look.arm] = look

    def ended(self, arms: Sequence[str]) -> bool:
        """Whether all of these arms have."""
        return all(name in self.last and self.last[name].is_last for name in arms)
