"""Observations in a file: the wire's msgpack messages, one observation each, one after the other.

Nothing precedes them and nothing stands between them, so two files may be joined with `cat`, and a client can
record what it sends by appending `wire.pack(observation)`. Reading is streaming and as suspicious as the
server: see `wire`.

An observation may say which episode it is from, by a number under `EPISODE`, which every policy ignores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgpack

from gr00t.files.atomic import atomic_write
from gr00t.serving.wires import n1_5 as wire

# What one observation may take, as on the wire. A frame of 256 x 256 takes 0.2 MB.
MAX_OBSERVATION_BYTES = 64 * 1024 * 1024
EPISODE = "episode"


class ObservationFileError(ValueError):
    """A file that does not hold observations, or not as many whole ones as it should."""


def write_observations(path: Path, observations: Iterable[dict[str, Any]]) -> int:
    """Write observations to `path`, which appears, or changes, only when all of them are there.

    Args:
        path: its folder must exist.
        observations: keys as a policy takes them; arrays, lists and texts.

    Returns:
        How many there were.

    Raises:
        TypeError: a value that the wire cannot carry.
        OSError: the file cannot be written.
    """
    count = 0
    with atomic_write(path) as aside, aside.open("wb") as file:
        for observation in observations:
            file.write(wire.pack(observation))
            count += 1
    return count


def read_observations(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the observations in `path` one by one.

    Raises:
        ObservationFileError: the file ends within an observation, or holds something else; the message says
            after how many whole observations.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, path.open("rb") as borders:
        size = os.fstat(file.fileno()).st_size
        unpacker = msgpack.Unpacker(borders, max_buffer_size=MAX_OBSERVATION_BYTES)
        count = start = 0
        while start < size:
            try:
                unpacker.skip()
                end: int = unpacker.tell()
                observation = wire.unpack(file.read(end - start))
            except msgpack.OutOfData:
                raise _fault(path, count, "the file ends within the next one; it was cut off") from None
            except msgpack.BufferFull:
                reason = f"the next one is larger than {MAX_OBSERVATION_BYTES} bytes"
                raise _fault(path, count, reason) from None
            except ValueError as error:
                raise _fault(path, count, str(error) or "not a msgpack message") from None
            if not isinstance(observation, dict):
                kind = type(observation).__name__
                raise _fault(path, count, f"expected an observation (a map of keys), got a {kind}")
            yield observation
            count, start = count + 1, end


def _fault(path: Path, count: int, reason: str) -> ObservationFileError:
    return ObservationFileError(f"{path}: after {count} whole observations: {reason}")
