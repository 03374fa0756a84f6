"""Writers that end early. Oracle: what a reader finds is the old content or the new one, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gr00t.files.atomic import atomic_write, replace_file, unfinished

# Writes `size` bytes of one value in place of another one's, for ever.
_FILES = """
import itertools, sys
from pathlib import Path
from gr00t.files.atomic import replace_file
for number in itertools.count():
    replace_file(Path(sys.argv[1]), bytes([number % 256]) * 3_000_000)
"""
# The same with a folder of three files, removed in between.
_FOLDERS = """
import itertools, shutil, sys
from pathlib import Path
from gr00t.files.atomic import atomic_write
for number in itertools.count():
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    with atomic_write(Path(sys.argv[1])) as aside:
        aside.mkdir()
        for name in "abc":
            (aside / name).write_bytes(bytes([number % 256]) * 100_000)
"""


def _killed(program: str, target: Path, after: float) -> None:
    writer = subprocess.Popen([sys.executable, "-c", program, str(target)])
    try:
        deadline = time.monotonic() + 60
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(after)
    finally:
        writer.kill()
    assert writer.wait(60) == -signal.SIGKILL


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    chance = random.Random(0)
    for number in range(8):
        target = tmp_path / f"{number}.bin"
        _killed(_FILES, target, chance.uniform(0.0, 0.05))
        content = target.read_bytes()
        assert content == content[:1] * 3_000_000
    assert {*tmp_path.iterdir()} == {*tmp_path.glob("[0-7].bin"), *unfinished(tmp_path)}


def test_of_a_folder_a_kill_leaves_all_or_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    for number in range(8):
        folder = tmp_path / str(number)
        _killed(_FOLDERS, folder, chance.uniform(0.0, 0.05))
        contents = [(folder / name).read_bytes() for name in "abc" if (folder / name).exists()]
        assert all(content == contents[0][:1] * 100_000 for content in contents)


def test_what_a_killed_writer_left_is_found_by_its_name(tmp_path: Path) -> None:
    program = "import sys, os; from pathlib import Path; from gr00t.files.atomic import atomic_write\n"
    program += "with atomic_write(Path(sys.argv[1])) as aside: aside.write_text('half'); os._exit(9)"
    for name in ("a.txt", "b"):
        assert subprocess.run([sys.executable, "-c", program, tmp_path / name]).returncode == 9
    assert [path.read_text() for path in unfinished(tmp_path)] == ["half", "half"]
    assert sorted(unfinished(tmp_path).values()) == ["a.txt", "b"]
    (tmp_path / ".mine.partial").touch()
    assert len(unfinished(tmp_path)) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    def half_a_file() -> None:
        with atomic_write(tmp_path / "a") as aside:
            aside.write_text("half")
            raise error

    def half_a_folder() -> None:
        with atomic_write(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / "half").touch()
            raise error

    replace_file(tmp_path / "a", "old")
    for attempt in (half_a_file, half_a_folder):
        with pytest.raises(error):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_an_error_names_what_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        replace_file(tmp_path / "nowhere" / "a", "")
    assert str(error.value) == f"[Errno 2] No such file or directory: '{tmp_path}/nowhere/a'"
    (tmp_path / "folder" / "kept").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as error:
        replace_file(tmp_path / "folder", "")
    assert str(error.value) == f"[Errno 21] Is a directory: '{tmp_path}/folder'"
    with pytest.raises(OSError, match="Directory not empty"), atomic_write(tmp_path / "folder") as aside:
        aside.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_who_may_read_is_for_the_umask_to_say(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "a", b"", durable=True)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    (tmp_path / "a").symlink_to(elsewhere)
    replace_file(tmp_path / "a", "new")
    assert (elsewhere.read_text(), (tmp_path / "a").read_text()) == ("kept", "new")
    assert not (tmp_path / "a").is_symlink()
