"""The folder of a run, which may be killed at any moment and started again: nothing lost, nothing doubled.

    plan.json              what was asked for
    arms/NAME.json         what each arm turned out to be
    sources/HASH.json      the files that arms of this hash of sources were played with
    episodes.jsonl         one line per episode, appended and synced; the only thing that says "played"
    videos/ thumbnails/ actions/    by arm; written before the line that names them
    servers/ simulators/   logs

A kill can leave the last line unfinished, which is cut off, and a picture without its line, which is written
again. A lock, which the system drops with its process, keeps a second run out. An episode that the simulator
lost has a line, too, and another one when it is played again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from gr00t.eval.arms.facts import ArmFacts
from gr00t.eval.rollout.record_parts import EpisodeKey
from gr00t.eval.rollout.records import EpisodeRecord, read_records
from gr00t.eval.rollout.run_files import read_arm, read_plan
from gr00t.files.atomic import replace_file
from gr00t.files.locks import lock
from gr00t.files.output_folder import writing
from gr00t.libero.tasks.suites import BENCHMARK, LiberoError
from gr00t.serving.identity import digest

logger = logging.getLogger(__name__)

# What a resumed run may do differently: play more. `arms` is compared arm by arm.
_MAY_GROW = ("tasks", "init_states", "seeds")
# Whose order and looks are fixed: it plays no more than it set out to.
_FIXED = "until_decided"
_OPTION = "--output"
# A run that is gone on with also draws its random numbers as it did.
_SAME_VERSIONS = (*BENCHMARK, "numpy")


class RunFolderError(LiberoError):
    """The folder is in use, or holds a run that this one does not continue."""


@dataclass(frozen=True)
class PlayedEpisode:
    """An episode's record, and the files that belong to it as bytes, or None."""

    record: EpisodeRecord
    video: bytes | None = None
    thumbnail: bytes | None = None
    actions: bytes | None = None


class RunFolder:
    """A run's folder, locked from construction to `close`; made where it does not exist.

    Args:
        path: The folder.
        plan: What is asked for, as plain data: `tasks`, `init_states`, `seeds` and `arms` (name to
            definition), and any number of conditions, which must be those of the run that is continued.

    Raises:
        RunFolderError: if another process holds it, or the plan does not continue what is there.
        RecordError: if a record in it is none, or of another run.
        OutputError: it cannot be made, or not be written; so do all methods that write.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        self.path = path
        self.episodes = path / "episodes.jsonl"
        with writing(path, _OPTION):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
        try:
            self.plan = self._agree(plan)
            self._cut_torn_line()
            found = read_records(self.episodes, self.plan) if self.episodes.exists() else []
            self.records: dict[EpisodeKey, EpisodeRecord] = {record.key: record for record in found}
            self._put("plan.json", json.dumps(self.plan, indent=2) + "\n")
        except BaseException:
            self.close()
            raise

    def add(self, played: PlayedEpisode) -> None:
        """Keep an episode. When this returns, the disk has it.

        Raises:
            RunFolderError: if it was already played, or was played by another simulator than the others.
        """
        record = played.record
        if self.has_played(record.key):
            raise RunFolderError(f"{self.path}: {tuple(record.key)} was already played")
        self._check_simulator(record)
        for name, content in (
            (record.outcome.video, played.video),
            (record.outcome.thumbnail, played.thumbnail),
            (record.outcome.actions, played.actions),
        ):
            if name is not None and content is not None:
                self._put(name, content)
        is_new = not self.episodes.exists()
        with writing(self.path, _OPTION):
            with _opened(self.episodes, "a") as file:
                file.write(record.to_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                _sync_folder(self.path)
        self.records[record.key] = record

    def has_played(self, key: EpisodeKey) -> bool:
        """Whether an episode is there, and was not lost to the simulator."""
        return key in self.records and self.records[key].was_played

    def describe_arm(self, facts: ArmFacts) -> None:
        """Write what an arm turned out to be."""
        self._put(f"arms/{facts.name}.json", json.dumps(facts.told(), indent=2) + "\n")

    def known_arm(self, name: str) -> ArmFacts | None:
        """What `describe_arm` wrote, in this run or the one that it continues.

        Raises:
            LiberoError: the file is there, but not as it was written.
        """
        path = self.path / "arms" / f"{name}.json"
        return read_arm(path, name) if path.is_file() else None

    def describe_sources(self, name: str, files: Mapping[str, str]) -> None:
        """Write which sources have a hash: the hashes of the files."""
        if not (self.path / "sources" / f"{name}.json").exists():
            self._put(f"sources/{name}.json", json.dumps(files, indent=2) + "\n")

    def known_sources(self, name: str | None) -> dict[str, str] | None:
        """What `describe_sources` wrote; None where it is not there any more, or not as it was."""
        path = self.path / "sources" / f"{name}.json"
        try:
            files = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return files if isinstance(files, dict) and digest(files) == name else None

    def log_path(self, kind: str, name: str) -> Path:
        """Where a log belongs; `kind` is `servers` or `simulators`."""
        path = self.path / kind / f"{name}.log"
        with writing(self.path, _OPTION):
            path.parent.mkdir(exist_ok=True)
        return path

    def close(self) -> None:
        """Let others use the folder."""
        self._lock.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, name: str, content: str | bytes) -> None:
        """Write the file `name` of the folder: the old one or the new one, never a part."""
        with writing(self.path, _OPTION):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path / name, content, durable=True)

    def _agree(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plan to go on with.

        Raises:
            RunFolderError: naming every difference that would change results.
        """
        path = self.path / "plan.json"
        if not path.exists():
            if self.episodes.exists():
                raise RunFolderError(f"{self.path} holds episodes but no plan.json: name another --output")
            return dict(asked)
        before = read_plan(path)
        differences = []
        may_grow = () if _FIXED in before else _MAY_GROW
        for name in sorted((before.keys() | asked.keys()) - {*may_grow, "arms"}):
            if before.get(name) != asked.get(name):
                differences.append(f"{name}: {before.get(name)!r} there, {asked.get(name)!r} now")
        for name in sorted(before["arms"].keys() & asked["arms"].keys()):
            old, new = before["arms"][name], asked["arms"][name]
            differences += [
                f"arm {name}, {key}: {old.get(key)!r} there, {new.get(key)!r} now"
                for key in sorted(old.keys() | new.keys())
                if old.get(key) != new.get(key)
            ]
        for name in may_grow:
            dropped = sorted(set(before[name]) - set(asked[name]))
            if dropped:
                differences.append(f"{name}: {', '.join(map(str, dropped))} there, but not asked for now")
        if differences:
            raise RunFolderError(
                f"{self.path} holds another run; name another --output, or ask for the same and more:\n  "
                + "\n  ".join(differences)
            )
        return {**asked, "arms": {**before["arms"], **asked["arms"]}}

    def _cut_torn_line(self) -> None:
        if not self.episodes.exists():
            return
        content = self.episodes.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            logger.warning("%s: an unfinished last line is cut off; its episode is replayed", self.episodes)
            with writing(self.path, _OPTION), _opened(self.episodes, "r+b") as file:
                file.truncate(whole)
                file.flush()
                os.fsync(file.fileno())

    def _check_simulator(self, record: EpisodeRecord) -> None:
        # A simulator that never came up says nothing of its versions, and every other one all that it has.
        played = next((known for known in self.records.values() if known.was_played), None)
        if played is None or not record.was_played:
            return
        for name in _SAME_VERSIONS:
            before, now = (known.conditions.versions.get(name, "unknown") for known in (played, record))
            if before != now:
                raise RunFolderError(
                    f"{self.path} was begun with {name} {before}, now it is {now}: results "
                    "do not compare; name another --output"
                )


def _opened(path: Path, mode: str) -> IO[Any]:
    """Open a file to write in, not one elsewhere that a link in its place leads to: folders are passed on."""

    def without_links(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=without_links)


def _locked(path: Path) -> IO[str]:
    file = _opened(path / ".lock", "a+")
    locked = lock(file)
    if locked is None:
        logger.warning("%s: cannot be locked: start no other run there meanwhile", path)
    elif not locked:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise RunFolderError(
            f"{path} is in use by another run (process {holder or 'unknown'}); wait for it, or name another "
            "--output"
        )
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
