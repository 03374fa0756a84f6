"""Oracle: the content that was written, byte for byte, after whatever happened to it in the cache."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from gr00t.files.cached_folder import content_hash, differing, put_file, put_folder
from gr00t.files.private_folder import CacheError
from gr00t.libero.assets.location import resolve_assets
from gr00t.libero.assets.robot_meshes import robot_meshes_folder, triangle_counts, write_robot_meshes
from gr00t.libero.assets.standins.folder import standin_files, write_standins
from gr00t.libero.simulator.environ import numba_environ, simulator_environ
from gr00t.libero.tasks.suites import find_suite


def flip(path: Path, generator: np.random.Generator) -> None:
    """One bit, and the time stamps of before: nothing but the content tells."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[int(generator.integers(len(content)))] ^= 1 << int(generator.integers(8))
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture(scope="module")
def standins() -> Mapping[str, bytes]:
    return standin_files()


def test_each_flipped_bit_of_the_stand_ins_is_repaired(tmp_path, standins, caplog):
    """41 flips, one a file: none used to be noticed."""
    generator = np.random.default_rng(0)
    folder = write_standins(tmp_path)
    for name in standins:
        flip(folder / name, generator)
    with caplog.at_level(logging.WARNING):
        assert write_standins(tmp_path) == folder
    assert {name: (folder / name).read_bytes() for name in standins} == standins
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{len(standins)} stand-in asset files were damaged or gone, ")
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def in_its_way_a_folder(path: Path) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)


def in_its_way_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def in_its_way_a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def in_its_way_a_file_above(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("")


def in_its_way_a_file_for_all(path: Path) -> None:
    shutil.rmtree(path.parents[1])
    path.parents[1].write_text("")


def in_its_way_nothing(path: Path) -> None:
    shutil.rmtree(path.parents[1])


def in_its_way_half(path: Path) -> None:
    os.truncate(path, 3)


IN_ITS_WAY = [value for name, value in sorted(globals().items()) if name.startswith("in_its_way")]


@pytest.mark.parametrize("block", IN_ITS_WAY, ids=lambda block: block.__name__)
def test_whatever_lies_in_its_place_a_file_comes_back(block: Callable[[Path], None], tmp_path):
    files = {"a/one.xml": b"<one/>", "two.xml": b"<two/>"}
    hashes = {name: content_hash(content) for name, content in files.items()}
    target = tmp_path / "made"
    put_folder(target, files)
    assert differing(target, hashes) == []
    block(target / "a/one.xml")
    assert "a/one.xml" in differing(target, hashes)
    put_folder(target, files)
    assert differing(target, hashes) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


@pytest.mark.libero
def test_each_flipped_bit_of_the_light_robot_is_repaired(tmp_path, monkeypatch):
    """In a mesh, and in the list of their hashes."""
    pytest.importorskip("fast_simplification")
    robot = tmp_path / "assets" / "robots"
    robot.mkdir(parents=True)
    vertices = ["v 0 0 0", "v 1 0 0", "v 0 1 0", "v 0 0 1"]
    faces = ["f 1 2 3", "f 1 2 4", "f 1 3 4", "f 2 3 4"]
    (robot / "a.obj").write_text("\n".join([*vertices, *faces]) + "\n")
    detail = next(iter(robot_meshes_module().DETAILS.values()))
    monkeypatch.setattr(robot_meshes_module(), "robosuite_assets", lambda: robot.parent)
    monkeypatch.setattr(robot_meshes_module(), "source_meshes", lambda assets: {"robots/a.obj": detail})
    folder = write_robot_meshes(tmp_path / "cache")
    made = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(made) == 2
    generator = np.random.default_rng(1)
    for path in (*made, *made):
        flip(path, generator)
        assert triangle_counts(robot_meshes_folder(tmp_path / "cache")) is None
        assert write_robot_meshes(tmp_path / "cache") == folder
        assert {path: path.read_bytes() for path in made} == made


def robot_meshes_module():
    from gr00t.libero.assets import robot_meshes

    return robot_meshes


def test_a_flipped_bit_makes_other_assets_of_somebodys_folder(tmp_path):
    """It cannot be repaired, so it shows in the fingerprint: by name and size they are the same."""
    folder = write_standins(tmp_path)
    suite = find_suite("object")
    basket = folder / "stable_scanned_objects/basket/basket.xml"
    (folder / "stable_scanned_objects/basket/look.png").write_bytes(b"picture")
    text = basket.read_text().replace("<worldbody>", '<asset><texture file="look.png"/></asset><worldbody>')
    basket.write_text(text)
    seen = set()
    for _ in range(2):
        found = resolve_assets(suite, package=tmp_path, environ={}, choice=str(folder))
        assert found == resolve_assets(suite, package=tmp_path, environ={}, choice=str(folder))
        seen.add(found.fingerprint)
        flip(folder / "stable_scanned_objects/basket/look.png", np.random.default_rng(2))
    assert len(seen) == 2


def test_a_cache_that_cannot_be_written_is_told_with_the_variable(tmp_path):
    environ = {"XDG_CACHE_HOME": "/dev/null"}
    with pytest.raises(CacheError, match=r"cannot be made \(Not a directory\); set XDG_CACHE_HOME to a fold"):
        resolve_assets(find_suite("object"), package=tmp_path, environ=environ, choice="stand-ins")
    with pytest.raises(CacheError, match="set XDG_CACHE_HOME"):
        simulator_environ(environ, backend="osmesa", package=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"file cannot be written \(.*\); set XDG_CACHE_HOME"):
        put_file(tmp_path / "file" / "config.yaml", b"")


def test_the_simulators_caches_are_its_users_own(tmp_path, monkeypatch):
    """Numba's are pickles: in a folder that everybody may write they would be a stranger's program.

    They stay beside robosuite's code where that can be written, as it is where it was installed.
    """
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    package = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / "robosuite")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    (tmp_path / "robosuite" / "utils" / "__pycache__").mkdir(parents=True)
    assert numba_environ(environ) == {}
    (tmp_path / "robosuite" / "utils" / "__pycache__").rmdir()
    before = os.umask(0)
    try:
        child = simulator_environ(environ, backend="osmesa", package=tmp_path)
    finally:
        os.umask(before)
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "LIBERO_CONFIG_PATH"):
        assert Path(child[name]).is_relative_to(tmp_path / "gr00t-duquant" / "libero")
        assert Path(child[name]).stat().st_mode & 0o777 == 0o700, name
    config = Path(child["LIBERO_CONFIG_PATH"]) / "config.yaml"
    written = config.stat()
    assert written.st_mode & 0o022 == 0
    simulator_environ(environ, backend="osmesa", package=tmp_path)
    assert config.stat().st_ino == written.st_ino  # a cache that may only be read serves too
    own = {"NUMBA_CACHE_DIR": "/n", "MPLCONFIGDIR": "/m"}
    assert own.items() <= simulator_environ({**environ, **own}, backend="osmesa", package=tmp_path).items()
