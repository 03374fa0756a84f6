"""The simulator that episodes were played by, in versions: with another one it is another benchmark.

MuJoCo 3.4 and later let a bowl of libero_spatial hang beside what it stood on, so that a task of the same
name is another task. Episodes are paired only where the versions agree, unless somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from gr00t.eval.rollout.records import EpisodeRecord
from gr00t.libero.tasks.suites import BENCHMARK, LiberoError

# Of these two unknown versions of different runs are not taken for the same one.
_DECISIVE = ("mujoco", "robosuite")
UNKNOWN = "unknown"


class _Run(Protocol):
    @property
    def path(self) -> Path: ...

    @property
    def records(self) -> Sequence[EpisodeRecord]: ...


def check_versions(runs: Iterable[_Run]) -> None:
    """Refuse episodes of different simulators in one table.

    Raises:
        LiberoError: naming the package, both versions and where they are.
    """
    seen: dict[str, tuple[object, str, str]] = {}
    for run in runs:
        for record in _played(run):
            for package in BENCHMARK:
                version = version_of(record, package)
                alike = (version, run.path) if version == UNKNOWN and package in _DECISIVE else version
                here = f"arm {record.key.arm!r} in {run.path}"
                known, said, there = seen.setdefault(package, (alike, version, here))
                if alike != known:
                    raise LiberoError(
                        f"these were played by different simulators and make no common table: {package} is "
                        f"{said} ({there}), but {version} ({here}); --allow-mixed compares them all the same"
                    )


def known_versions(runs: Iterable[_Run]) -> dict[str, list[str]]:
    """The versions of every package, as many as there are."""
    found: dict[str, set[str]] = {package: set() for package in BENCHMARK}
    for run in runs:
        for record in _played(run):
            for package in BENCHMARK:
                found[package].add(version_of(record, package))
    return {package: sorted(known) for package, known in found.items() if known}


def version_of(record: EpisodeRecord, package: str) -> str:
    """The version that a record tells, or `UNKNOWN`."""
    return record.conditions.versions.get(package) or UNKNOWN


def _played(run: _Run) -> Iterable[EpisodeRecord]:
    # A simulator that never came up tells nothing, and counts nothing.
    return (record for record in run.records if record.was_played)
