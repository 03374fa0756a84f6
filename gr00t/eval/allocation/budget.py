"""What a policy's quantized weights may take: bits per weight, or bytes. Standard library only."""

from __future__ import annotations

import dataclasses
import re

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
# Of the quantized weights; what is not quantized has 16.
_MOST_BITS = 16


class AllocationError(ValueError):
    """Bits cannot be allocated; the message says why."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What quantized weights may take, block scales and row scales counted.

    Attributes:
        text: as somebody wrote it, `4.25` or `870KB`.
        bits_per_weight: of the selected layers together, or None.
        stored: bytes, or None.
    """

    text: str
    bits_per_weight: float | None = None
    stored: int | None = None

    def in_bytes(self, weights: int) -> int:
        """Return the bytes that `weights` weights may take, rounded down."""
        if self.stored is not None:
            return self.stored
        assert self.bits_per_weight is not None
        return int(self.bits_per_weight * weights // 8)


def parse_budget(text: str) -> Budget:
    """Read `4.25` (bits per weight), `870KB`, `0.5 GiB` and the like.

    Raises:
        AllocationError: it is neither.
    """
    match = _TEXT.fullmatch(text.strip())
    unit = match[2].upper() if match else ""
    if match is None or (unit and unit not in _UNITS):
        raise AllocationError(
            f"--budget {text!r}: expected bits per weight, as 4.25, or bytes with their unit, as 870KB "
            "(B, KB, MB, GB, KiB, MiB, GiB)"
        )
    number = float(match[1])
    if unit:
        return Budget(text.strip(), stored=int(number * _UNITS[unit]))
    if not 0 < number <= _MOST_BITS:
        raise AllocationError(
            f"--budget {text}: expected more than 0 and at most {_MOST_BITS} bits per weight; bytes need "
            f"their unit, as {text.strip()}KB"
        )
    return Budget(text.strip(), bits_per_weight=number)


def bits_per_weight(stored: int, weights: int) -> float:
    """Return the bits that each of `weights` weights takes where all take `stored` bytes."""
    return 8 * stored / weights
