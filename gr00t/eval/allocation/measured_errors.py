"""What was measured so far, in a file: a program that is killed at any moment goes on from there.

One line of JSON for each measurement, the first one says what all of them are of. A line that a kill has cut
off is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gr00t.eval.allocation.budget import AllocationError
from gr00t.files.locks import lock
from gr00t.strict_json import parse_json


class MeasuredErrors:
    """Errors of the actions by the bits of the layers that were quantized; a context that closes the file.

    Args:
        folder: of the file, which exists; its name says what the errors are of, so others may lie beside it.
        facts: everything that an error depends on, as plain data, but the bits.

    Raises:
        AllocationError: the file is damaged, or another process writes it.
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        header = json.dumps({"of": facts}, sort_keys=True)
        self.path = folder / f"errors-{hashlib.sha256(header.encode()).hexdigest()[:12]}.jsonl"
        self._file = self.path.open("a+b")
        try:
            if lock(self._file) is False:
                raise AllocationError(f"{self.path}: another process measures the same; wait for it")
            self._errors = self._read(header)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> MeasuredErrors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._errors)

    def __contains__(self, bits: Mapping[str, int]) -> bool:
        return _key(bits) in self._errors

    def __getitem__(self, bits: Mapping[str, int]) -> float:
        """The error with these bits, by layer; all other layers are not quantized."""
        return self._errors[_key(bits)]

    def add(self, bits: Mapping[str, int], error: float) -> None:
        """Keep a measurement; when this returns, it is on the disk."""
        self._append(json.dumps({"bits": dict(bits), "error": error}))
        self._errors[_key(bits)] = error

    def _append(self, line: str) -> None:
        self._file.write(f"{line}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, header: str) -> dict[frozenset[tuple[str, int]], float]:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._file.truncate(len(whole))  # what a kill has cut off
        if not whole:
            self._append(header)
            return {}
        first, *lines = whole.splitlines()
        if first != header.encode():
            raise self._damaged(1)
        errors = {}
        for number, line in enumerate(lines, start=2):
            try:
                said = parse_json(line)
                errors[_key(said["bits"])] = float(said["error"])
            except (ValueError, TypeError, KeyError, AttributeError):
                raise self._damaged(number) from None
        return errors

    def _damaged(self, line: int) -> AllocationError:
        return AllocationError(f"{self.path}: line {line} is not what was written; delete the file")


def _key(bits: Mapping[str, int]) -> frozenset[tuple[str, int]]:
    return frozenset(bits.items())
