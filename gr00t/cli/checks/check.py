"""What a check found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "slow", "missing"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        status: `ok`, `slow` (works, but costs time) or `missing`.
        detail: What was found, or what is wrong.
        next: The command that helps, if one does.
        needed: Whether an evaluation cannot run without it.
    """

    name: str
    status: Status
    detail: str
    next: str = ""
    needed: bool = False

    @property
    def stops(self) -> bool:
        """Whether an evaluation cannot run because of it."""
        return self.needed and self.status == "missing"

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.status:<8}{self.name:<22}{self.detail}"


def split_advice(error: Exception) -> tuple[str, str]:
    """An error of this project as what is wrong and the command that helps: they end with `run: COMMAND`."""
    text = " ".join(str(error).split())
    wrong, found, command = text.partition("run: ")
    return (wrong.rstrip("; "), command.partition(" (")[0]) if found else (text, "")
