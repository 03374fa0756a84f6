"""What the cache of compiled kernels may hold: this user's own, whole, and closed to others.

Oracles: a compiler that only writes one word, so that what is loaded can be read; and the one of the machine,
whose library must load and run after whatever was done to the cache.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from gr00t.files.private_folder import CacheError, private_folder, user_cache
from gr00t.quantization.kernels import build
from gr00t.quantization.kernels.library_file import DamagedLibraryError, keep_library_file, open_library_file
from tests.shell import REPO

MADE = "made\n"


@pytest.fixture(autouse=True)
def _x86(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    """A compiler that writes a word, and counts how often it linked a library."""
    script = tmp_path / "fake-c++"
    script.write_text(
        f"""#!/bin/sh
[ "$1" = --version ] && {{ echo 1.0; exit; }}
for word; do [ "$last" = -o ] && out=$word; last=$word; done
case "$*" in *library.cpp*) echo >> {tmp_path}/linked ;; esac
echo made > "$out"
"""
    )
    script.chmod(0o755)
    cache = tmp_path / "shared" / "cache"
    return {"CXX": str(script), "PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(cache)}


def load(environ: dict[str, str]) -> Path:
    """Read the library as one that is to be loaded is."""
    with build.compiled_library(environ) as path:
        descriptor = open_library_file(path)
        with open(descriptor) as file:
            assert file.read() == MADE
        return path


def linked(tmp_path: Path) -> int:
    return len((tmp_path / "linked").read_text().splitlines())


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `path` be somebody else's: by its owner where we may, else by who we say that we are."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.lstat().st_uid + 1)


def test_it_is_the_owners_alone_whatever_the_umask(environ, tmp_path):
    before = os.umask(0)
    try:
        path = load(environ)
    finally:
        os.umask(before)
    for folder in (path.parent, *path.parent.parents[:4]):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.is_relative_to(user_cache(environ))
    assert (load(environ), linked(tmp_path)) == (path, 1)


def damage_cut(path: Path) -> None:
    os.truncate(path, 2)


def damage_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_bit(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def damage_folder(path: Path) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)


def damage_link(path: Path) -> None:
    other = path.rename(path.with_name("other"))
    path.symlink_to(other)


def damage_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def damage_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def damage_mode(path: Path) -> None:
    path.chmod(0o666)


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_damaged_is_compiled_anew(damage, environ, tmp_path, caplog):
    path = load(environ)
    damage(path)
    with pytest.raises(DamagedLibraryError):
        open_library_file(path)
    with caplog.at_level(logging.WARNING):
        assert load(environ) == path
    assert [message for message in caplog.messages if "is not loaded: " in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert linked(tmp_path) == 2
    assert (load(environ), linked(tmp_path)) == (path, 2)


def test_a_library_of_somebody_else_is_not_loaded(environ, tmp_path, caplog, monkeypatch):
    path = load(environ)
    if os.geteuid():
        pytest.skip("only root can give a file away; the folder's owner is tested without")
    give_away(path, monkeypatch)
    with caplog.at_level(logging.WARNING):
        load(environ)
    assert "it belongs to user 12345, not to user 0; compiled anew" in caplog.text
    assert path.stat().st_uid == 0


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_folder_of_somebody_else_is_not_used(depth, environ, tmp_path, caplog, monkeypatch):
    """Neither written nor read: the kernels are compiled into one that nobody can foretell, and that goes."""
    path = load(environ)
    give_away(path.parents[depth], monkeypatch)
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        elsewhere = load(environ)
    assert elsewhere.parent.parent == tmp_path
    assert not elsewhere.parent.exists()
    assert len(caplog.messages) == 1
    assert "are compiled for this process alone: " in caplog.text
    assert "set XDG_CACHE_HOME to a folder of your own" in caplog.text
    assert linked(tmp_path) == 2


def test_a_link_in_place_of_a_folder_is_not_followed(environ, tmp_path, caplog):
    path = load(environ)
    path.parent.parent.rename(tmp_path / "moved")
    path.parent.parent.symlink_to(tmp_path / "moved")
    with caplog.at_level(logging.WARNING):
        assert not load(environ).is_relative_to(tmp_path)
    assert "kernels is a symbolic link; remove it, or set XDG_CACHE_HOME" in caplog.text


def test_a_folder_that_others_could_write_is_closed_and_emptied(environ, tmp_path, caplog):
    path = load(environ)
    (path.parent / "planted").write_text("")
    path.parent.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert load(environ) == path
    assert [*path.parent.iterdir()] == [path]
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0
    assert "could be written by others: closed to them and emptied" in caplog.text
    assert linked(tmp_path) == 2


def test_a_cache_that_cannot_be_written_is_replaced_for_the_process(environ, tmp_path, caplog):
    environ["XDG_CACHE_HOME"] = "/dev/null/cache"
    with caplog.at_level(logging.WARNING):
        load(environ)
    assert "(Not a directory); set XDG_CACHE_HOME to a folder that you can write" in caplog.text


@pytest.mark.parametrize("is_full_everywhere", [False, True])
def test_a_full_disk_is_no_error_of_the_compiler(is_full_everywhere, environ, caplog, monkeypatch):
    def free(folder: Path) -> SimpleNamespace:
        is_cache = str(folder).startswith(environ["XDG_CACHE_HOME"])
        return SimpleNamespace(free=0 if is_cache or is_full_everywhere else 1 << 30)

    monkeypatch.setattr(shutil, "disk_usage", free)
    left = len(list(Path(tempfile.gettempdir()).glob("gr00t-duquant-*")))
    if is_full_everywhere:
        with pytest.raises(build.KernelBuildError, match=r"nowhere \(.*No space left .* set XDG_CACHE_HOME"):
            load(environ)
    else:
        assert not str(load(environ)).startswith(environ["XDG_CACHE_HOME"])
    assert "compiled for this process alone: [Errno 28] No space left on device" in caplog.text
    assert len(list(Path(tempfile.gettempdir()).glob("gr00t-duquant-*"))) == left


def test_who_has_no_home_is_told_the_variable(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(CacheError, match=r"user 4000000 has no home on record; set XDG_CACHE_HOME to a fol"):
        user_cache({})
    assert user_cache({"HOME": "/h"}) == Path("/h/.cache/gr00t-duquant")
    assert user_cache({"XDG_CACHE_HOME": "c"}) == Path.cwd() / "c" / "gr00t-duquant"


def test_other_folders_of_the_cache_keep_what_they_hold(environ):
    """Only what may be code is emptied: a year's frames stay where a umask of 002 let the group write."""
    frames = private_folder(environ, "frames")
    (frames / "kept").write_text("")
    frames.parent.chmod(0o775)
    private_folder(environ, "kernels")
    assert (frames / "kept").exists()
    assert stat.S_IMODE(frames.parent.stat().st_mode) == 0o755


def test_what_was_opened_is_what_is_loaded(tmp_path):
    """The name may mean another file by then."""
    library = tmp_path / "new"
    library.write_text(MADE)
    path = keep_library_file(library, tmp_path)
    descriptor = open_library_file(path)
    path.unlink()
    path.write_text("other")
    assert Path(f"/proc/self/fd/{descriptor}").read_text() == MADE
    os.close(descriptor)


PROGRAM = """
import os, pathlib
from gr00t.quantization.kernels import library
from tests.quantization.kernels.test_native_cache import damage_cut, damage_pipe, damage_zeros
cache = pathlib.Path(os.environ["XDG_CACHE_HOME"])
for damage in (None, damage_cut, damage_zeros, damage_pipe):
    if damage:
        (path,) = cache.glob("gr00t-duquant/kernels/*/*.so")
        content = path.read_bytes()
        path.unlink()  # what is loaded stays as it is
        path.write_bytes(content)
        damage(path)
    library._library = None
    print(*library.load(os.environ))
"""


def test_a_process_outlives_a_damaged_library(native_kernels, environ):
    """It used to end by SIGBUS or SIGSEGV, at each start. What is loaded is the library of this machine."""
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    script = Path(environ["CXX"])
    with build.compiled_library(os.environ) as there:
        script.write_text(script.read_text().replace('echo made > "$out"', f'cp {there} "$out"'))
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=REPO,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (run.returncode, run.stdout) == (0, (" ".join(native_kernels[:-1]) + "\n") * 4), run.stderr
