"""Which assets a run uses, and what it says when there are none."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gr00t.libero.assets import location as assets
from gr00t.libero.assets.location import AssetsError, cache_folder, resolve_assets
from gr00t.libero.assets.required import required_files
from gr00t.libero.assets.standins.folder import write_standins
from gr00t.libero.tasks.suites import find_suite

OBJECT, LARGE = find_suite("object"), find_suite("90")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The variables of a user who has nothing yet, the hub switched off."""
    return {"HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of something that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_the_cache_follows_the_users_variables() -> None:
    assert cache_folder({"HOME": "/h"}) == Path("/h/.cache/gr00t-duquant/libero")
    assert cache_folder({"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/gr00t-duquant/libero")


def test_a_named_folder_comes_first(tmp_path: Path, home: dict[str, str]) -> None:
    folder = write_standins(tmp_path)
    found = resolve_assets(OBJECT, package=tmp_path, environ={**home, "LIBERO_ASSETS": str(folder)})
    assert (found.kind, found.path) == ("folder", folder)
    assert str(found) == f"folder {folder}"


def test_the_folder_above_assets_is_accepted_too(tmp_path: Path, home: dict[str, str]) -> None:
    shutil.copytree(write_standins(tmp_path), tmp_path / "unpacked" / "assets")
    found = resolve_assets(
        OBJECT, package=tmp_path, environ={**home, "LIBERO_ASSETS": str(tmp_path / "unpacked")}
    )
    assert found.path == tmp_path / "unpacked" / "assets"


def test_a_folder_on_the_command_line_beats_the_variable(tmp_path: Path, home: dict[str, str]) -> None:
    folder = write_standins(tmp_path)
    environ = {**home, "LIBERO_ASSETS": "/nowhere"}
    assert resolve_assets(OBJECT, package=tmp_path, environ=environ, choice=str(folder)).path == folder


def test_a_missing_folder_is_named_with_where_it_was_named(tmp_path: Path, home: dict[str, str]) -> None:
    with pytest.raises(AssetsError, match=r"LIBERO_ASSETS=/nowhere: no such folder"):
        resolve_assets(OBJECT, package=tmp_path, environ={**home, "LIBERO_ASSETS": "/nowhere"})
    with pytest.raises(AssetsError, match=r"--assets=/nowhere: no such folder"):
        resolve_assets(OBJECT, package=tmp_path, environ=home, choice="/nowhere")


def test_an_incomplete_folder_is_refused_with_what_it_lacks(tmp_path: Path, home: dict[str, str]) -> None:
    folder = write_standins(tmp_path)
    basket = folder / "stable_scanned_objects/basket/basket.xml"
    text = basket.read_text().replace(
        "<worldbody>", '<asset><mesh file="visual/basket.msh"/></asset><worldbody>'
    )
    basket.write_text(text)
    (folder / "stable_hope_objects/milk/milk.xml").unlink()
    with pytest.raises(AssetsError) as caught:
        resolve_assets(OBJECT, package=tmp_path, environ={**home, "LIBERO_ASSETS": str(folder)})
    assert str(caught.value) == (
        f"LIBERO_ASSETS={folder} is not complete for libero_object: missing "
        "stable_hope_objects/milk/milk.xml, stable_scanned_objects/basket/visual/basket.msh"
    )


def test_assets_that_came_with_an_installed_libero_are_used(tmp_path: Path, home: dict[str, str]) -> None:
    write_standins(tmp_path).rename(tmp_path / "assets")
    assert resolve_assets(OBJECT, package=tmp_path, environ=home).kind == "installed"


def test_a_complete_copy_from_the_hub_is_used_without_network(tmp_path: Path, home: dict[str, str]) -> None:
    cached = Path(home["HOME"]) / ".cache" / "libero" / "assets"
    shutil.copytree(write_standins(tmp_path), cached)
    assert resolve_assets(OBJECT, package=tmp_path, environ=home).kind == "hub"
    # Half a download must not pass for one: the built-in ones step in.
    (cached / required_files("libero_object")[1]).unlink()
    assert resolve_assets(OBJECT, package=tmp_path, environ=home).kind == "stand-ins"


def test_without_a_hub_the_stand_ins_serve_and_the_reason_is_logged(
    tmp_path: Path, home: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="gr00t"):
        found = resolve_assets(OBJECT, package=tmp_path, environ=home)
    assert found.kind == "stand-ins"
    assert found.path.parent == cache_folder(home)
    assert found.fingerprint in found.path.name
    assert "the hub is switched off (HF_HUB_OFFLINE)" in caplog.text


def test_a_suite_without_stand_ins_is_refused_with_all_that_was_tried(
    tmp_path: Path, home: dict[str, str]
) -> None:
    with pytest.raises(AssetsError) as caught:
        resolve_assets(LARGE, package=tmp_path, environ=home)
    message = str(caught.value)
    for part in (
        "no assets for libero_90: LIBERO_ASSETS is not set",
        "the hub is switched off (HF_HUB_OFFLINE)",
        "the built-in stand-ins cover only libero_spatial, libero_object, libero_goal, libero_10",
        "Set LIBERO_ASSETS to a folder",
    ):
        assert part in message
    with pytest.raises(AssetsError, match=r"cover only libero_spatial, .*libero_10, .*, not libero_90"):
        resolve_assets(LARGE, package=tmp_path, environ=home, choice="stand-ins")


@pytest.mark.parametrize("suite", ["spatial", "object", "goal", "10"])
def test_the_four_suites_run_with_stand_ins(suite: str, tmp_path: Path, home: dict[str, str]) -> None:
    found = resolve_assets(find_suite(suite), package=tmp_path, environ=home, choice="stand-ins")
    assert (found.kind, found.path.parent) == ("stand-ins", cache_folder(home))
    assert all((found.path / name).is_file() for name in required_files(f"libero_{suite}"))


def test_a_hub_that_never_answers_is_given_up_in_time(
    tmp_path: Path, home: dict[str, str], silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "ENDPOINT", silent_server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(assets, "_PROBE_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(AssetsError, match=rf"the hub at {silent_server} cannot be reached \(.*timed out\)"):
        resolve_assets(OBJECT, package=tmp_path, environ={"HOME": home["HOME"]}, choice="hub")
    # Measured: 0.31 s.
    assert time.monotonic() - started < 2.0
