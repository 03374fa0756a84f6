"""Embodiments and the weights that serve them.

The action head stores one set of state and action projections per embodiment; the tag says which set is used.
"""

from __future__ import annotations

from enum import Enum

from gr00t.spelling import did_you_mean


class EmbodimentTag(Enum):
    """The embodiments that GR00T N1.5 was trained on, and the slot for a new one."""

    GR1 = "gr1"
    OXE_DROID = "oxe_droid"
    AGIBOT_GENIE1 = "agibot_genie1"
    NEW_EMBODIMENT = "new_embodiment"

    @classmethod
    def _missing_(cls, value: object) -> EmbodimentTag:
        known = [tag.value for tag in cls]
        raise ValueError(f"unknown embodiment tag {value!r}; {did_you_mean(str(value), known)}")


EMBODIMENT_TAG_MAPPING: dict[str, int] = {
    EmbodimentTag.NEW_EMBODIMENT.value: 31,
    EmbodimentTag.OXE_DROID.value: 17,
    EmbodimentTag.AGIBOT_GENIE1.value: 26,
    EmbodimentTag.GR1.value: 24,
}
