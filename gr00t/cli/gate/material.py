"""What arms are judged by and what they are calibrated by, never the same: files, a data set, or a suite."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gr00t.cli.calibration.arguments import FEWEST_REQUESTS
from gr00t.cli.calibration.sources import LiberoSource
from gr00t.cli.errors import UsageError
from gr00t.cli.gate.arguments import DriftArguments
from gr00t.eval.drift.episode_bootstrap import FEWEST_EPISODES
from gr00t.eval.drift.observed import ObservedEpisodes, check_apart, observe, read_observed
from gr00t.libero.tasks.suites import LiberoError, parse_indices
from gr00t.serving.observation_file import read_observations

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy

logger = logging.getLogger("gr00t.drift")

_HELD_OUT = 10


@dataclasses.dataclass(frozen=True)
class Material:
    """Observations.

    Attributes:
        judged: by which arms are judged.
        where: they are from, for people.
        recorded: by which arms are calibrated; empty where none is.
        recorded_where: they are from.
    """

    judged: ObservedEpisodes
    where: str
    recorded: Sequence[dict[str, Any]] = ()
    recorded_where: str = ""


class MaterialFinder:
    """Finds the observations; what needs no policy is read and checked at once.

    Args:
        arguments: of the command line.
        fewest: requests that a calibration takes at least; 0 where none is wanted.
        environ: the environment variables.

    Raises:
        UsageError, DriftError, ObservationFileError, LiberoError, OSError: there are no such observations, or
            too few.
    """

    def __init__(self, arguments: DriftArguments, fewest: int, environ: Mapping[str, str]) -> None:
        self._arguments, self._fewest = arguments, fewest
        self._wanted = (arguments.requests or max(fewest, FEWEST_REQUESTS)) if fewest else 0
        if self._wanted < fewest:
            raise UsageError(f"--requests {self._wanted}: an arm's static scales take {fewest}")
        self._recorded: tuple[Sequence[dict[str, Any]], str] = ((), "")
        # Where the file of --calibration serves, nothing of the rest is taken for it.
        self._of_rest = self._wanted
        if fewest and arguments.calibration is not None:
            found = list(itertools.islice(read_observations(arguments.calibration), self._wanted))
            self._recorded, self._of_rest = (found, f"file {arguments.calibration.name}"), 0
        self._file = self._of_file() if arguments.observations is not None else None
        self._source = self._of_suite(arguments.libero, environ) if arguments.libero is not None else None

    def find(self, policy: Gr00tPolicy) -> Material:
        """Return the observations.

        Args:
            policy: not quantized; acts where there is a suite, and says which keys it wants of a data set.

        Raises:
            UsageError, DriftError, LiberoError, SimulatorError, DatasetError: as above.
        """
        if self._file is not None:
            return self._file
        if self._source is not None:
            return self._checked(*self._played(self._source, policy))
        return self._checked(*self._of_data(policy))

    def _checked(
        self, judged: ObservedEpisodes, where: str, rest: Sequence[dict[str, Any]], rest_where: str
    ) -> Material:
        """All of it, if there is enough and nothing is in both parts."""
        recorded, recorded_where = (rest, rest_where) if self._of_rest else self._recorded
        if judged.episode_count < FEWEST_EPISODES:
            raise UsageError(
                f"{where}: {len(judged.observations)} observations of {judged.episode_count} episode; an "
                "interval over episodes takes at least two"
            )
        if len(recorded) < self._fewest:
            raise UsageError(
                f"{len(recorded)} observations to calibrate by ({recorded_where}), at least {self._fewest} "
                "are needed: give more episodes, or a file of others: --calibration FILE"
            )
        check_apart(recorded, judged.observations)
        if judged.repeated:
            logger.warning(
                "%s: %d observations are the same as one of another episode: the interval is of fewer "
                "episodes than it seems",
                *(where, judged.repeated),
            )
        return Material(judged, where, recorded, recorded_where)

    def _of_file(self) -> Material:
        path = self._arguments.observations
        assert path is not None
        judged, rest = read_observed(path, self._arguments.per_episode), ObservedEpisodes()
        where = f"file {path.name}"
        if self._of_rest:
            rest, judged = judged.hold_out(self._arguments.judged)
        observations = rest.observations[: self._wanted]
        return self._checked(judged, where, observations, f"other episodes of {where}")

    def _of_data(self, policy: Gr00tPolicy) -> tuple[ObservedEpisodes, str, Sequence[dict[str, Any]], str]:
        from gr00t.data.lerobot.single_dataset import LeRobotSingleDataset

        path = self._arguments.data
        assert path is not None
        dataset = LeRobotSingleDataset(path, policy.modality_config, policy.embodiment_tag)
        lengths = dict(zip(dataset.trajectory_ids.tolist(), dataset.trajectory_lengths.tolist(), strict=True))
        held_out = held_out_episodes(self._arguments.episodes, list(lengths), str(path))
        others = {number: length for number, length in lengths.items() if number not in held_out}
        judged = observe(dataset, {number: lengths[number] for number in held_out}, self._arguments.judged)
        rest = observe(dataset, others, self._of_rest) if self._of_rest and others else ObservedEpisodes()
        where = f"{len(held_out)} episodes of {path.name}"
        return judged, where, rest.observations, f"{len(others)} other episodes of {path.name}"

    def _of_suite(self, suite: str, environ: Mapping[str, str]) -> LiberoSource:
        return LiberoSource(
            suite,
            self._of_rest,
            environ,
            tasks=self._arguments.tasks,
            seed=self._arguments.seed,
            max_steps=self._arguments.max_steps,
            replan_steps=self._arguments.steps_executed,
            assets=self._arguments.assets,
            gl=self._arguments.gl,
        )

    def _played(
        self, source: LiberoSource, policy: Gr00tPolicy
    ) -> tuple[ObservedEpisodes, str, Sequence[dict[str, Any]], str]:
        placement = self._arguments.placement
        played, _ = source.play(policy, self._arguments.judged, placement=placement, to_judge=True)
        judged = ObservedEpisodes(played.observations, played.episodes)
        where = f"rollouts in {source.suite.name}, {placement} placements"
        rest = list(source.gather(policy)[0]) if self._of_rest else []
        return judged, where, rest, f"rollouts in {source.suite.name}, other initial states"


def held_out_episodes(text: str, numbers: Sequence[int], where: str) -> list[int]:
    """Return the numbers of the episodes that judge: the last ten, at most half, where `text` names none.

    Raises:
        UsageError: there are no such episodes.
    """
    if not text:
        count = min(_HELD_OUT, len(numbers) // 2)
        if count < FEWEST_EPISODES:
            raise UsageError(
                f"{where}: of {len(numbers)} episodes none can be held out; name at least two with --episodes"
            )
        return list(numbers[-count:])
    try:
        chosen = parse_indices(text, max(numbers) + 1, "--episodes", f" of {where}")
    except LiberoError as error:
        raise UsageError(str(error)) from None
    unknown = [number for number in chosen if number not in numbers]
    if unknown:
        raise UsageError(f"--episodes {text}: {where} has no episode {unknown[0]}")
    return list(chosen)
