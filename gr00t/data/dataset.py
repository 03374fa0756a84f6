"""Which time steps and keys of a modality a policy uses.

Kept free of torch, and runs on Python 3.8: the simulator's client decodes this class from the wire.
"""

from __future__ import annotations

from typing import List

from pydantic import BaseModel, Field


class ModalityConfig(BaseModel):
    """The keys of one modality and the time steps, relative to now, at which they are needed."""

    delta_indices: List[int] = Field(..., description="time steps relative to the current one")
    modality_keys: List[str] = Field(..., description='keys, for example "state.x"')
