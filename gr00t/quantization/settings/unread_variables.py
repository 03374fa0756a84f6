"""Variables that look like settings of this project and that nothing reads. Standard library only.

A setting that is ignored without a word makes people report results of something that never ran. What is
misspelt behind `GR00T_DUQUANT_` is an error (`environment`). What stands beside it is told here, once per
process: other settings under `GR00T_`, of programs that this one replaces or invented, and `GR00T_DUQUANT_`
itself in another spelling.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping

logger = logging.getLogger(__name__)

# Read by the tests, which say so where they are skipped.
_OF_TESTS = ("GR00T_PARITY_SETS", "GR00T_TOKENIZER")
# Settings of other programs that serve this model, by what follows GR00T_; first match wins.
_ELSEWHERE = (
    (r"ATM(_|$)", "attention-temperature matching is not supported: results are those without it; unset it"),
    (r"OHB(_|$)", "output-head balancing is not supported: results are those without it; unset it"),
    (r"(NUM_)?(DENOISING|INFERENCE)_(TIME)?STEPS$", "use the flag --denoising-steps"),
    (r"MODEL(_PATH)?$|CHECKPOINT(_PATH)?$", "use the flag --model-path"),
    (r"DATA_CONFIG$", "use the flag --data-config"),
    (r"EMBODIMENT(_TAG)?$", "use the flag --embodiment-tag"),
    (r"(HOST|PORT|SEED|DEVICE|API_TOKEN)$", "use the flag of that name"),
)
_CLOSE = 0.8

_told: set[str] = set()


def warn_of_unread_variables(environ: Mapping[str, str], prefix: str, known: Collection[str]) -> None:
    """Log one warning that names every variable of `environ` that nothing reads, with what to do.

    A name is told once per process, however often settings are read.

    Args:
        environ: usually `os.environ`.
        prefix: of the settings that are read, `GR00T_DUQUANT_`; whoever reads them judges what has it.
        known: what may follow the prefix.
    """
    unread = [name for name in environ if _looks_like_ours(name, prefix) and name not in _told]
    if not unread:
        return
    _told.update(unread)
    lines = [f"{name}: {_advice(name, prefix, known)}" for name in sorted(unread)]
    logger.warning(
        "[GR00T-DUQUANT] Set, but read by nothing, and so without any effect:\n  %s", "\n  ".join(lines)
    )


def _looks_like_ours(name: str, prefix: str) -> bool:
    if name.startswith(prefix) or name in _OF_TESTS:
        return False
    letters = _letters(name)
    return (
        letters.startswith("GR00T")
        or "DUQUANT" in letters
        or difflib.SequenceMatcher(None, letters[: len(prefix)], _letters(prefix)).ratio() >= _CLOSE
    )


def _advice(name: str, prefix: str, known: Collection[str]) -> str:
    upper = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    rest = re.sub(r"^GR[0O]{2}T_?", "", upper)
    for pattern, advice in _ELSEWHERE:
        if re.match(pattern, rest):
            return advice
    # DUQANT_WBITS, WBITS: what is meant is the end of the name that a known one equals, or nearly does.
    parts = upper.split("_")
    ends = ["_".join(parts[start:]) for start in range(len(parts))]
    meant = next((end for end in ends if end in known), None) or _nearest(ends, known)
    if meant is None:
        return f"no variable of that name is known; unset it (docs/QUANTIZATION.md lists all {prefix}*)"
    return f"did you mean {prefix}{meant}?"


def _nearest(ends: Iterable[str], known: Collection[str]) -> str | None:
    close = (difflib.get_close_matches(end, known, n=1, cutoff=_CLOSE) for end in ends)
    return next((found[0] for found in close if found), None)


def _letters(name: str) -> str:
    """A name in capitals without separators, the letter O written as the digit that GR00T has."""
    return re.sub(r"[^A-Z0-9]", "", name.upper()).replace("O", "0")
