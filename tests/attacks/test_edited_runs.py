"""Run folders that were edited or damaged. Oracle: one line that names a file, or a whole report."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gr00t.eval.report import write_report
from gr00t.eval.statistics import compare, read_run, verdict_table
from gr00t.libero.tasks.suites import LiberoError
from tests.eval.statistics.synthetic_runs import QUANTIZED, W4A8, solves, write_run

ODD = (
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    1e308,
    "",
    "x",
    "\ud800",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
    "../../x",
    "NaN",
)


def damage(content: bytes, moments: random.Random) -> bytes:
    """Flip, cut, repeat or overwrite some bytes."""
    start = moments.randrange(len(content))
    end = min(len(content), start + moments.randrange(1, 40))
    return moments.choice(
        (
            content[:start] + bytes([content[start] ^ (1 << moments.randrange(8))]) + content[start + 1 :],
            content[:start],
            content[:start] + content[end:],
            content[:end] + content[start:],
            content[:start] + b"\0" * (end - start) + content[end:],
            content[:start] + moments.randbytes(end - start) + content[end:],
        )
    )


def edit(value: Any, moments: random.Random) -> Any:
    """Put something odd in the place of one value, at whatever depth, or leave an entry out."""
    if isinstance(value, dict) and value and moments.random() < 0.8:
        key = moments.choice(list(value))
        if moments.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: edit(value[key], moments)}
    if isinstance(value, list) and value and moments.random() < 0.7:
        place = moments.randrange(len(value))
        return [*value[:place], edit(value[place], moments), *value[place + 1 :]]
    return moments.choice(ODD)


def test_edited_and_damaged_runs_are_refused_in_one_line_or_read_as_they_are(
    tmp_path: Path, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    folder = write_run(
        tmp_path / "run",
        {"bf16": solves(), "w4a8": solves((0, 1))},
        facts={"w4a8": {"settings": W4A8, "checkpoint": {"sha256": "9f"}, "quantization": QUANTIZED}},
    )
    files = [folder / "plan.json", folder / "arms" / "w4a8.json", folder / "episodes.jsonl"]
    whole = {path: path.read_bytes() for path in files}
    expected = verdict_table(compare([read_run(folder)]))
    moments = random.Random(20261130)
    same = different = 0
    said: list[str] = []
    for blow in range(blows(400, 8_000)):
        path = moments.choice(files)
        if moments.random() < 0.5:
            path.write_bytes(damage(whole[path], moments))
        else:
            lines = whole[path].splitlines() if path.suffix == ".jsonl" else [whole[path]]
            place = moments.randrange(len(lines))
            lines[place] = json.dumps(edit(json.loads(lines[place]), moments)).encode()
            path.write_bytes(b"\n".join(lines) + b"\n")
        try:
            found = verdict_table(compare([read_run(folder)]))
            if blow % 10 == 0:
                write_report(folder)
        except LiberoError as error:
            said.append(str(error))
        else:
            same += found == expected
            different += found != expected
        path.write_bytes(whole[path])
    assert [text for text in said if str(folder) not in text or "\n" in text] == []
    refused = len(said)
    figure(
        f"{refused + same + different} edits and damages: {refused} refused by name, {same} without effect, "
        f"{different} read as another run that could have been"
    )
    assert refused > same + different
