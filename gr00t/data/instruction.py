"""Which of an observation's keys holds the instruction, and what it says.

GR00T N1.5 takes whichever key has "annotation" in its name, whatever the data configuration calls it, and a
standard instruction where there is none. So do we, with one exception: where it is not clear that there is
none, because a text came under another name, that text is used or named in an error, never dropped.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gr00t.data.errors import ObservationError, shown
from gr00t.data.leaves import array_of, kind_of, leaves

logger = logging.getLogger(__name__)

MAX_INSTRUCTION_CHARACTERS = 2_000
# Where neither the client nor the data configuration has a name with "annotation" in it.
_STANDARD_KEY = "annotation.human.task_description"
# What clients of other policies call it.
_OTHER_NAMES = ("task", "language", "instruction", "language_instruction", "prompt")
_MAX_COUNTED = 1_000_000


def is_instruction_key(key: object) -> bool:
    """Return whether GR00T N1.5 takes what stands under a key for the instruction."""
    return isinstance(key, str) and ("annotation" in key or key.startswith("language."))


def find_instruction(
    observation: Mapping[str, Any], configured: Collection[str], others: Collection[str]
) -> tuple[str, Any] | None:
    """Return the instruction as it came, and the key under which the transforms shall find it.

    Args:
        observation: what a client sent.
        configured: the data configuration's keys for an instruction; the first one names what is found.
        others: the keys that the policy needs for something else.

    Returns:
        Key and value, or None where the standard instruction is to be used.

    Raises:
        ObservationError: several keys could be it, or a text stands under a name that nobody knows.
    """
    found = [key for key in configured if key in observation]
    if not found:
        found = [key for key in observation if is_instruction_key(key) and key not in others]
    if not found:
        found = [key for key in _OTHER_NAMES if _is_text(observation.get(key))]
        for key in found:
            _say_other_name(key)
    if len(found) > 1:
        names = ", ".join(repr(shown(key)) for key in found[:5])
        wanted = f" as {next(iter(configured))!r}" if configured else ""
        raise ObservationError(f"{len(found)} keys could be the instruction: {names}; send one{wanted}")
    if found:
        return next(iter(configured), found[0] if is_instruction_key(found[0]) else _STANDARD_KEY), (
            observation[found[0]]
        )
    for key, value in observation.items():
        if key not in others and _is_text(value):
            raise ObservationError(
                f"no instruction in the observation, but text as {shown(key)!r}; send the "
                f"instruction as {next(iter(configured), _STANDARD_KEY)!r}, or no text at all for the "
                "standard instruction"
            )
    return None


def read_instructions(key: str, value: Any, batch: int, batched: bool, steps: int = 1) -> Any:
    """Return one instruction per sample, as an array (B, 1) where the reference would print one, else a list.

    How the instruction arrives decides its form in the prompt; see `GR00TTransform`. Where `steps` time
    steps are observed, there may be one for each of them, as data sets have it: the first one counts.

    Raises:
        ObservationError: no text, too much of it, or not one for each sample.
    """
    # Counted before numpy sees them, which makes all texts as long as the longest.
    texts = list(itertools.islice(leaves(value), batch * steps + 1))
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ObservationError(f"{key}: expected text, got {kind_of(value)}")
    if len(texts) not in (batch, batch * steps):
        many = itertools.islice(leaves(value), _MAX_COUNTED)
        got = value.size if isinstance(value, np.ndarray) else sum(1 for _ in many)
        wanted = "one instruction" if not batched else f"{batch} instructions, one per sample"
        raise ObservationError(f"{key}: expected {wanted}, got {got}")
    longest = max(map(len, texts))
    if longest > MAX_INSTRUCTION_CHARACTERS:
        raise ObservationError(
            f"{key}: an instruction of {longest} characters; "
            f"at most {MAX_INSTRUCTION_CHARACTERS} are accepted"
        )
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise ObservationError(f"{key}: an instruction has half a character (a surrogate), which is no text")
    if len(texts) != batch:
        return np.asarray(texts).reshape(batch, steps)[:, :1]
    array = array_of(key, value)
    if not batched:
        return array.reshape(1, 1)
    if array.shape not in ((batch,), (batch, 1)):
        raise ObservationError(
            f"{key}: expected a list of {batch} instructions, one per sample, got shape {array.shape}"
        )
    return array if array.ndim == 2 else array.tolist()


def _is_text(value: Any) -> bool:
    """Return whether a value is a text, or a list or array that begins with one."""
    return isinstance(next(leaves(value), None), str)


@functools.cache  # once for each of the few names
def _say_other_name(key: str) -> None:
    logger.warning(
        "the instruction comes as %r and is taken; NVIDIA's server would ignore it, which wants a key with "
        "'annotation' in its name",
        key,
    )
