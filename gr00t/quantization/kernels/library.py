"""The compiled CPU kernels, loaded: one library for the process, its functions called through plain C.

`load` is called by whoever quantizes a model. Where it was not, or failed, `supported` is empty and layers
use PyTorch's operations: nothing here ever compiles behind a caller's back.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.quantization.kernels.build import KernelBuildError, compiled_library
from gr00t.quantization.kernels.library_file import DamagedLibraryError, open_library_file
from gr00t.quantization.kernels.operands import (
    FeedbackCall,
    Field,
    LinearCall,
    LinearOperands,
    Record,
    SearchCall,
    layout,
)

logger = logging.getLogger(__name__)

# Of a layer, and what quantizes a weight, which takes one record of its own.
_PARTS = ("rotate", "prologue", "accumulate", "epilogue", "linear")
_QUANTIZING = ("search", "feedback")

# Only an oracle: slower than PyTorch's own operations.
_FOR_TESTS = "portable"


class NativeKernelError(RuntimeError):
    """A compiled kernel was asked for that is not there, or could not do its work."""


class _Field(ctypes.Structure):
    """`Field` of native/library.cpp."""

    _fields_ = (("name", ctypes.c_char_p), ("at", ctypes.c_int64), ("bytes", ctypes.c_int64))


_RECORDS: dict[str, Record] = {
    "duquant_linear_operands": LinearOperands,
    "duquant_linear_call": LinearCall,
    "duquant_search_call": SearchCall,
    "duquant_feedback_call": FeedbackCall,
}


class _Library:
    """A loaded library.

    Attributes:
        parts: functions by what they compute.
        kernels: indices of the kernels that this CPU can run.
        compiled: names of all that were compiled.
        refusals: why it cannot run others, though it shows their instructions.
    """

    def __init__(self, path: Path) -> None:
        library = _load(path)
        library.duquant_kernel.restype = library.duquant_refusal.restype = ctypes.c_char_p
        library.duquant_peak.restype = ctypes.c_double
        library.duquant_peak.argtypes = [ctypes.c_int, ctypes.c_int64]
        self.peak = library.duquant_peak
        self.parts: dict[str, Any] = {}
        for part in _PARTS:
            function = getattr(library, f"duquant_{part}")
            function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p]
            self.parts[part] = function
        for part in _QUANTIZING:
            function = getattr(library, f"duquant_{part}")
            function.argtypes = [ctypes.c_int, ctypes.c_char_p]
            self.parts[part] = function
        self.records = {name: getattr(library, name) for name in _RECORDS}
        for name, record in _RECORDS.items():
            _check_layout(record, _declared(self.records[name]))
        self.has_threads = bool(library.duquant_has_threads())
        self.kernels: dict[str, int] = {}
        self.compiled: set[str] = set()
        self.refusals: dict[str, str] = {}
        index = 0
        while name := library.duquant_kernel(index):
            self.compiled.add(name.decode())
            if library.duquant_is_supported(index):
                self.kernels[name.decode()] = index
            elif refusal := library.duquant_refusal(index):
                self.refusals[name.decode()] = refusal.decode()
            index += 1


def _declared(function: Any) -> tuple[Field, ...]:
    """The fields of a record as the library has them, read from one after the other."""
    function.restype = ctypes.POINTER(_Field)
    fields, entry = function(), 0
    while fields[entry].name is not None:
        entry += 1
    declared = [Field(fields[i].name.decode(), fields[i].at, fields[i].bytes) for i in range(entry)]
    return (*declared, Field("all of it", 0, fields[entry].bytes))


def _check_layout(record: Record, declared: tuple[Field, ...]) -> None:
    """Compare a record with its struct, field by field.

    Raises:
        KernelBuildError: naming the first field that differs, of both.
    """
    for number, (mine, its) in enumerate(itertools.zip_longest(layout(record), declared)):
        if mine != its:
            raise KernelBuildError(
                f"{record.__name__}, field {number}: "
                f"{mine} in kernels/operands.py, {its} in the compiled library"
            )


def _load(path: Path) -> ctypes.CDLL:
    """Load what was looked at, by its descriptor: the loader knows it by that number, so it stays open."""
    descriptor = open_library_file(path)
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
            except (KernelBuildError, DamagedLibraryError, OSError, AttributeError) as error:
                if _why_not != str(error):
                    logger.warning(
                        "[GR00T-DUQUANT] No compiled CPU kernels: %s; PyTorch's operations instead", error
                    )
                _why_not = str(error)
            else:
                _why_not = "this processor has none of the instructions they need"
                for name, refusal in _library.refusals.items():
                    logger.warning("[GR00T-DUQUANT] The CPU kernel %s is not used: %s", name, refusal)
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
    """Say why `supported` is empty, or lacks kernels whose instructions this CPU shows; "" where neither."""
    if not supported():
        return _why_not
    assert _library is not None
    return "; ".join(f"{name}: {refusal}" for name, refusal in _library.refusals.items())


def why_not_loaded(name: str) -> str:
    """Say why a kernel is not `loaded`; empty where it is."""
    if _library is None:
        return _why_not
    if name in _library.kernels:
        return ""
    if name not in _library.compiled:
        return "not compiled"
    return _library.refusals.get(name, "this processor lacks its instructions")


def call(part: str, kernel: str, *records: LinearOperands | LinearCall | SearchCall | FeedbackCall) -> None:
    """Run one part of a layer, or what quantizes a weight, by the named kernel.

    Args:
        part: in `_PARTS`, or `_QUANTIZING`.
        kernel: its name.
        records: `LinearOperands` and `LinearCall`, or a `SearchCall` or `FeedbackCall` of its own.

    Raises:
        NativeKernelError: the kernel is not loaded, memory ran out, or a permutation is none.
        ValueError: a tensor is not contiguous.
    """
    library, index = _find(kernel)
    status = library.parts[part](index, *[record.flatten() for record in records])
    if status:
        reason = "memory ran out" if status == 1 else "the permutation names a channel that is not there"
        raise NativeKernelError(f"the compiled kernel {kernel!r} failed: {reason}")


def peak_operations(kernel: str, rounds: int) -> float:
    """Do `rounds` rounds of dot products on one thread, from registers alone; return how many operations."""
    library, index = _find(kernel)
    return float(library.peak(index, rounds))


def _find(kernel: str) -> tuple[_Library, int]:
    if _library is None or kernel not in _library.kernels:
        raise NativeKernelError(f"the compiled kernel {kernel!r} is not there: loaded are {loaded()}")
    return _library, _library.kernels[kernel]
