"""Compiling the CPU kernels: with the system's compiler, once per machine, into the user's cache.

The folder's name is a hash of the sources, the flags and the compiler's version, so a change of any of them
compiles anew and nothing else does. The library is written under a temporary name and renamed: several
processes may start at once, and a killed one leaves nothing half made. Where the cache cannot be written, or
is somebody else's, a folder of this process alone takes its place. An instruction set that an old compiler
does not know is left out, and the log says so; without OpenMP the kernels use one thread.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gr00t.files.private_folder import private_folder
from gr00t.quantization.kernels.library_file import find_library_file, keep_library_file

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "native"

# Instruction sets by machine, fastest first, each with its flags: the files of native/isa. `portable` is
# there to test the others by.
_AVX512 = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma"
_X86 = {
    "amx_int8": f"{_AVX512} -mamx-tile -mamx-int8 -mavx512vbmi -mgfni",
    "avx512_vnni": _AVX512,
    "avx2": "-mavx2 -mfma",
    "portable": "",
}
_ARM = {
    "neon_i8mm": "-march=armv8.2-a+dotprod+i8mm",
    "neon_dotprod": "-march=armv8.2-a+dotprod",
    "portable": "",
}
KERNELS = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}

# Contraction would fuse a product and a sum where this compiler likes to, and change their last bit.
FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"),
    *("-fno-exceptions", "-fno-rtti"),
)
_COMPILERS = ("c++", "g++", "clang++")
_TIMEOUT_S = 300.0
# Bytes that compiling needs, several times over: the library and its parts are some 300 kB.
_FREE_BYTES = 8_000_000


class KernelBuildError(Exception):
    """The kernels cannot be compiled here; the message is one line that says why."""


@contextlib.contextmanager
def compiled_library(environ: Mapping[str, str]) -> Iterator[Path]:
    """Give the path of the compiled library, compiling it (some seconds) where it is not there yet.

    Args:
        environ: looked at for CXX, a compiler to prefer, for PATH, XDG_CACHE_HOME and HOME.

    Raises:
        KernelBuildError: no compiler, one that fails, or no place to write to.
    """
    kernels = KERNELS.get(platform.machine().lower())
    if kernels is None:
        raise KernelBuildError(f"there are none for a {platform.machine() or 'nameless'} processor")
    compiler = _find_compiler(environ)
    sources = sorted(path for path in SOURCES.rglob("*") if path.suffix in (".cpp", ".hpp"))
    digest = hashlib.sha256()
    for part in (
        _run([compiler, "--version"]),
        repr(FLAGS),
        repr(kernels),
        *(p.read_text() for p in sources),
    ):
        digest.update(part.encode() + b"\0")
    with contextlib.ExitStack() as stack:
        try:
            folder = private_folder(environ, "kernels", digest.hexdigest()[:24])
            library = find_library_file(folder) or _build(compiler, kernels, folder)
        except OSError as error:
            logger.warning("[GR00T-DUQUANT] CPU kernels are compiled for this process alone: %s", error)
            with _errors_named():
                own = Path(tempfile.mkdtemp(prefix="gr00t-duquant-"))  # a name that nobody can foretell
                stack.callback(shutil.rmtree, own, ignore_errors=True)  # when the library is loaded
                library = _build(compiler, kernels, own)
        yield library


@contextlib.contextmanager
def _errors_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelBuildError(
            f"they can be written nowhere ({error}); "
            "set XDG_CACHE_HOME or TMPDIR to a folder that you can write"
        ) from error


def _build(compiler: str, kernels: Mapping[str, str], folder: Path) -> Path:
    start = time.perf_counter()
    if shutil.disk_usage(folder).free < _FREE_BYTES:  # a compiler would say it as an error of its own
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        library = keep_library_file(_compile(compiler, kernels, Path(temporary)), folder)
    elapsed = time.perf_counter() - start
    logger.info("[GR00T-DUQUANT] CPU kernels compiled in %.1f s, once: %s", elapsed, library)
    return library


def _find_compiler(environ: Mapping[str, str]) -> str:
    wanted = environ.get("CXX")
    for name in [wanted] if wanted else _COMPILERS:
        found = shutil.which(name, path=environ.get("PATH"))
        if found:
            return found
    tried = f"CXX={wanted}" if wanted else ", ".join(_COMPILERS)
    raise KernelBuildError(f"no C++ compiler was found ({tried}); on Debian: apt-get install g++")


def _compile(compiler: str, kernels: Mapping[str, str], folder: Path) -> Path:
    threads = _run_or_none(
        [compiler, "-fopenmp", "-shared", "-o", str(folder / "probe.so"), "-x", "c++", "-"]
    )
    # Whoever has an older or a newer compiler is not to read its warnings: the tests do (-Wall -Wextra).
    base = [compiler, *FLAGS, *(["-fopenmp"] if threads is not None else []), "-w"]
    return link(base, compile_kernels(base, kernels, folder), folder / "duquant.so", "-shared")


def compile_kernels(base: Sequence[str], kernels: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Compile kernels by processes of their own, since they take the longest.

    Args:
        base: the compiler and its flags for all of them.
        kernels: flags of each instruction set, by the name of its file in native/isa.
        folder: where to.

    Returns:
        The object files of those that this compiler knows.

    Raises:
        KernelBuildError: it knows none; with what it says of the first one.
    """
    running = {}
    for name, flags in kernels.items():
        source = [f"-DKERNEL={name}", f'-DISA="isa/{name}.hpp"', "-c", str(SOURCES / "layer.cpp")]
        command = [*base, *flags.split(), *source, "-o", str(folder / f"{name}.o")]
        running[name] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    errors = {name: process.communicate()[1] for name, process in running.items()}
    compiled = {name: folder / f"{name}.o" for name, process in running.items() if process.returncode == 0}
    if not compiled:
        raise KernelBuildError(f"{base[0]} failed: {_first_line(next(iter(errors.values())))}")
    for name in kernels:
        if name not in compiled:
            logger.warning("[GR00T-DUQUANT] CPU kernel %s is left out: %s", name, _first_line(errors[name]))
    return compiled


def link(base: Sequence[str], kernels: Mapping[str, Path], target: Path, *more: str) -> Path:
    """Link compiled kernels with what makes them a library; return `target`.

    Args:
        base: as for `compile_kernels`.
        kernels: the object files.
        target: what to write.
        more: further arguments of the compiler.

    Raises:
        KernelBuildError: it fails.
    """
    listed = f"-DKERNELS={' '.join(f'X({name})' for name in kernels)}"
    sources = [str(SOURCES / "library.cpp"), *map(str, kernels.values())]
    _run([*base, listed, *sources, *more, "-o", str(target)])
    return target


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise KernelBuildError(f"{command[0]} failed: {_first_line(error.stderr)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelBuildError(f"{command[0]} failed: {error}") from error
    return done.stdout


def _run_or_none(command: list[str]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, input="", timeout=_TIMEOUT_S)
    return done.stdout if done.returncode == 0 else None


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line] or text.splitlines()
    return lines[0].strip() if lines else "no message"
