"""Kinds of values in the files of a run, checked as they are read: they may have been edited."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Positive = Annotated[int, Field(strict=True, ge=1, le=2**53)]
# Seconds, milliseconds or a length, all far below; what is larger would overflow in a sum.
Amount = Annotated[float, Field(ge=0, le=1e9)]
# It names files.
ArmName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\z", max_length=200)]


class Checked(BaseModel):
    """More may stand there than is named: what a later version writes is no fault."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    def told(self) -> dict[str, Any]:
        """What was said, and nothing that was left open, as plain data."""
        return self.model_dump(exclude_unset=True)
