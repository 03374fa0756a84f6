"""Memory that every request asks for anew: kept by the process instead of given back to the system.

By default the C library gives large blocks back at once, and each request pays for its pages again: 16,000 to
37,000 page faults a request of the full-size model, up to 0.4 s of the system's time (W4A8, four steps;
2026-11-30, commit e565423, AMD EPYC Zen 4, torch 2.13); kept, none. Only glibc is known to take these
settings; elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import sys
from collections.abc import MutableMapping, Sequence

logger = logging.getLogger(__name__)

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER, _SMALLEST = -1, 1 << 17
# Older versions of glibc refuse more than the second.
_LARGEST = (1 << 30, 1 << 25)
# Read by PyTorch when it first allocates: blocks of 2 MB and more come in huge pages where programs may ask
# for them. A request took 0.96 x the CPU time (as above).
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def use_huge_pages(environ: MutableMapping[str, str]) -> None:
    """Let PyTorch, which is not imported yet, ask for huge pages, unless `environ` decides otherwise."""
    environ.setdefault(_HUGE_PAGES, "1")


def return_freed_memory() -> bool:
    """Give back from now on every large block that is freed; return whether the C library does.

    For loading a model. By itself glibc soon takes blocks of up to 32 MB from heaps, one per thread, that
    keep what is freed in their midst: 0.3 GB more at most for the full-size model at W4A8.
    """
    return _tell_allocator([(_M_MMAP_THRESHOLD, (_SMALLEST,))])


def keep_freed_memory() -> bool:
    """Keep from now on what is freed; return whether the C library does.

    To be called when a model is loaded: what loading needed besides is given back before.
    """
    return _tell_allocator([(_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, (_NEVER,))])


def _tell_allocator(options: Sequence[tuple[int, Sequence[int]]]) -> bool:
    """Set every option to the first of its values that is taken."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        logger.debug("The allocator stays as it is: the C library is not glibc")
        return False
    refused = [
        f"mallopt({option}, {' or '.join(map(str, values))})"
        for option, values in options
        # It returns 1 where the option holds from now on.
        if not any(libc.mallopt(option, value) == 1 for value in values)
    ]
    if refused:
        _warn_once(f"The C library refuses {' and '.join(refused)}: requests may take longer, or more memory")
    return not refused


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning(message)
