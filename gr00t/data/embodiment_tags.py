"""Embodiments and the weights that serve them.

The action head stores one set of state and action projections per embodiment; the tag says which set is used.
"""

from __future__ import annotations

import logging
from enum import Enum

from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)


class EmbodimentTag(Enum):
    """The embodiments that GR00T N1.5 was trained on, and the slot for a new one."""

    GR1 = "gr1"
    OXE_DROID = "oxe_droid"
    AGIBOT_GENIE1 = "agibot_genie1"
    NEW_EMBODIMENT = "new_embodiment"

    @classmethod
    def _missing_(cls, value: object) -> EmbodimentTag:
        if (tag := tag_of(value)) is not None:
            logger.info("embodiment tag %r: taken for %r", value, tag.value)
            return tag
        known = [tag.value for tag in cls]
        # A robot's data configurations are named after it, its weights are chosen by the tag alone.
        family = [tag for tag in known if tag in str(value).lower() and tag != "new_embodiment"]
        hint = f"the tag is {family[0]}" if family else did_you_mean(str(value), known)
        raise ValueError(f"unknown embodiment tag {value!r}; {hint}")


# The same robot by the name that earlier versions gave it.
_ALIASES = {"agibot": EmbodimentTag.AGIBOT_GENIE1}


def tag_of(name: object) -> EmbodimentTag | None:
    """The tag that a name stands for, however it is written: its case, dashes, a name of earlier versions."""
    if not isinstance(name, str):
        return None
    plain = name.lower().replace("-", "_").replace(" ", "_")
    known = {tag.value: tag for tag in EmbodimentTag} | _ALIASES
    return known.get(plain)


EMBODIMENT_TAG_MAPPING: dict[str, int] = {
    EmbodimentTag.NEW_EMBODIMENT.value: 31,
    EmbodimentTag.OXE_DROID.value: 17,
    EmbodimentTag.AGIBOT_GENIE1.value: 26,
    EmbodimentTag.GR1.value: 24,
}
