"""The compiled CPU kernels, loaded: one library for the process, its functions called through plain C.

`load` is called by whoever quantizes a model. Where it was not, or failed, `supported` is empty and layers
use PyTorch's operations: nothing here ever compiles behind a caller's back.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.quantization.kernels.build import KernelBuildError, compiled_library
from gr00t.quantization.kernels.sealed import BrokenSealError, open_sealed

logger = logging.getLogger(__name__)

_PARTS = ("rotate", "front", "accumulate", "rear", "linear", "search")

# Only an oracle: slower than PyTorch's own operations.
_FOR_TESTS = "portable"


def _pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


def _numbers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_int64) for name in names]


class Arguments(ctypes.Structure):
    """`Arguments` of native/arguments.hpp: what one call gets. What is not named is zero, or absent."""

    _fields_ = (
        *_numbers("threads", "rows", "in_features", "out_features"),
        *_pointers("x"),
        *_numbers("x_dtype"),
        *_pointers("smoothing", "rotation_first"),
        *_numbers("first_blocks"),
        *_pointers("perm", "rotation_in"),
        *_numbers("in_blocks", "block_in"),
        *_pointers("act_scale"),
        *_numbers("qmin", "qmax"),
        ("smallest_scale", ctypes.c_double),
        *_pointers("codes"),
        *_numbers("code_bits"),
        *_pointers("block_scale"),
        *_numbers("scale_bits", "scale_offset"),
        *_pointers("row_scale", "rotation_out"),
        *_numbers("out_blocks", "block_out"),
        *_pointers("bias"),
        *_numbers("bias_dtype"),
        *_pointers("y"),
        *_numbers("y_dtype"),
        *_pointers("h", "q", "s", "acc", "tried"),
        *_numbers("tries"),
        *_pointers("found_scale"),
    )


class NativeKernelError(RuntimeError):
    """A compiled kernel was asked for that is not there, or could not do its work."""


class _Library:
    """A loaded library: functions by the names in `_PARTS`, indices of the kernels this CPU can run."""

    def __init__(self, path: Path) -> None:
        library = _load(path)
        library.duquant_kernel.restype = ctypes.c_char_p
        library.duquant_peak.restype = ctypes.c_double
        library.duquant_peak.argtypes = [ctypes.c_int, ctypes.c_int64]
        self.peak = library.duquant_peak
        self.parts: dict[str, Any] = {}
        for part in _PARTS:
            function = getattr(library, f"duquant_{part}")
            function.argtypes = [ctypes.c_int, ctypes.POINTER(Arguments)]
            self.parts[part] = function
        self.has_threads = bool(library.duquant_has_threads())
        self.kernels: dict[str, int] = {}
        index = 0
        while name := library.duquant_kernel(index):
            if library.duquant_is_supported(index):
                self.kernels[name.decode()] = index
            index += 1


def _load(path: Path) -> ctypes.CDLL:
    """Load what was looked at, by its descriptor: the loader knows it by that number, so it stays open."""
    descriptor = open_sealed(path)
    name = f"/proc/self/fd/{descriptor}"
    try:
        return ctypes.CDLL(name if os.access(name, os.R_OK) else str(path))
    except OSError as error:
        os.close(descriptor)
        raise KernelBuildError(str(error).replace(name, str(path))) from error


_lock = threading.Lock()
_library: _Library | None = None
_why_not = "they were not loaded"


def load(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Load the kernels, compiling them first where that is to do, and return `supported`.

    The log says so when they are compiled, and once why there are none.

    Args:
        environ: looked at for a compiler and the user's cache (`compiled_library`).
    """
    global _library, _why_not
    with _lock:
        if _library is None:
            try:
                with compiled_library(environ) as path:
                    _library = _Library(path)
            except (KernelBuildError, BrokenSealError, OSError, AttributeError) as error:
                if _why_not != str(error):
                    logger.warning(
                        "[GR00T-DUQUANT] No compiled CPU kernels: %s; PyTorch's operations instead", error
                    )
                _why_not = str(error)
            else:
                _why_not = "this processor has none of the instructions they need"
                if not _library.has_threads:
                    logger.warning(
                        "[GR00T-DUQUANT] The CPU kernels use one thread: no OpenMP to compile with"
                    )
    return supported()


def supported() -> tuple[str, ...]:
    """Names of the compiled kernels that are worth choosing on this CPU, fastest first."""
    return tuple(name for name in loaded() if name != _FOR_TESTS)


def loaded() -> tuple[str, ...]:
    """Names of all kernels that this CPU can run, the one for tests last."""
    return tuple(_library.kernels) if _library is not None else ()


def why_not() -> str:
    """Say why `supported` is empty."""
    return _why_not


def call(part: str, kernel: str, arguments: Arguments) -> None:
    """Run one of `_PARTS` by the named kernel.

    Raises:
        NativeKernelError: the kernel is not loaded, memory ran out, or a permutation is none.
    """
    if _library is None or kernel not in _library.kernels:
        raise NativeKernelError(f"the compiled kernel {kernel!r} is not there: loaded are {loaded()}")
    status = _library.parts[part](_library.kernels[kernel], arguments)
    if status:
        reason = "memory ran out" if status == 1 else "the permutation names a channel that is not there"
        raise NativeKernelError(f"the compiled kernel {kernel!r} failed: {reason}")


def peak_operations(kernel: str, rounds: int) -> float:
    """Do `rounds` rounds of dot products on one thread, from registers alone; return how many operations."""
    if _library is None or kernel not in _library.kernels:
        raise NativeKernelError(f"the compiled kernel {kernel!r} is not there: loaded are {loaded()}")
    return float(_library.peak(_library.kernels[kernel], rounds))
