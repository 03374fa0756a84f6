"""Which architecture a groot policy has: that of what it was trained from. Oracle: its own config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.source import open_source
from gr00t.model.meta_model import find_config
from tests.model.lerobot.groot_folder import write_groot_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_groot_folder(folder / "groot", folder / "base")
    return folder / "base"


def test_the_architecture_is_that_of_the_base(tmp_path: Path, base: Path) -> None:
    folder = write_groot_folder(tmp_path / "groot", base, weights=False)
    assert Gr00tConfig.from_folder(folder) == Gr00tConfig.from_folder(base)
    assert find_config(folder)[0] == Gr00tConfig.from_folder(base)
    full = write_groot_folder(
        tmp_path / "full", base, weights=False, config={"base_model_path": "nvidia/GR00T-N1.5-3B"}
    )
    assert Gr00tConfig.from_folder(full) == Gr00tConfig.full_size()
    assert Gr00tConfig.from_folder(full, base) == Gr00tConfig.from_folder(base)
    gone = write_groot_folder(
        tmp_path / "gone", base, weights=False, config={"base_model_path": "/nowhere/x"}
    )
    with pytest.raises(
        CheckpointError, match=r"was trained from /nowhere/x, whose config\.json has the archite"
    ):
        Gr00tConfig.from_folder(gone)
    assert Gr00tConfig.from_folder(gone, "nvidia/GR00T-N1.5-3B") == Gr00tConfig.full_size()
    whole = open_source(base)
    assert whole.adapter is None
    with pytest.raises(CheckpointError, match=r"is a whole checkpoint and needs no base; leave --base out"):
        open_source(base, folder)


def test_a_policy_trained_from_another_one_has_the_architecture_of_where_that_began(
    tmp_path: Path, base: Path
) -> None:
    first = write_groot_folder(tmp_path / "first", base, weights=False)
    second = write_groot_folder(
        tmp_path / "groot", base, weights=False, config={"base_model_path": str(first)}
    )
    source = open_source(second)
    assert source.config == Gr00tConfig.from_folder(base)
    assert base / "config.json" in source.more
    config = json.loads((first / "config.json").read_text())
    (first / "config.json").write_text(json.dumps(config | {"base_model_path": str(second)}))
    with pytest.raises(CheckpointError, match=r"groot: names itself as what it was trained from; give the"):
        open_source(second)
