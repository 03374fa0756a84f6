"""Which file a tensor comes from. Oracle: the index, or the text with which a folder is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gr00t.model.checkpoint.folder import save_checkpoint
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.weight_files import stored_tensors
from gr00t.model.gr00t_n1 import GR00T_N1_5
from tests.model.parity_set import rewrite

WEIGHT = "action_head.model.proj_out_2.weight"


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        GR00T_N1_5.from_pretrained(folder)
    return str(error.value)


@pytest.fixture
def shards(tmp_path: Path, model: GR00T_N1_5) -> tuple[Path, dict[str, str]]:
    """A checkpoint in several files, and the file of each tensor."""
    save_checkpoint(model, model.config, tmp_path / "sharded", shard_bytes=1_000_000)
    index = tmp_path / "sharded" / "model.safetensors.index.json"
    return tmp_path / "sharded", json.loads(index.read_text())["weight_map"]


def reindex(folder: Path, weight_map: object) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    return index


def add(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({**load_file(file), **tensors}, file)


@pytest.mark.parametrize("which", ["first", "last"])
def test_of_a_tensor_in_two_files_the_one_that_the_index_names_is_read(
    shards: tuple[Path, dict[str, str]], model: GR00T_N1_5, which: str
) -> None:
    folder, weight_map = shards
    files = sorted(set(weight_map.values()))
    other = files[0] if which == "first" else files[-1]
    name = next(name for name, file in weight_map.items() if file != other)
    value = load_file(folder / weight_map[name])[name]
    add(folder / other, {name: torch.zeros_like(value)})
    assert stored_tensors(folder)[name].file.name == weight_map[name]
    again, before = GR00T_N1_5.from_pretrained(folder).state_dict(), model.state_dict()
    assert all(torch.equal(tensor, again[ours]) for ours, tensor in before.items())


def test_a_tensor_in_two_files_that_the_index_does_not_name(shards: tuple[Path, dict[str, str]]) -> None:
    folder, weight_map = shards
    other = next(file for file in sorted(weight_map.values()) if file != weight_map[WEIGHT])
    add(folder / other, {WEIGHT: torch.zeros(40, 48)})
    index = reindex(folder, {name: file for name, file in weight_map.items() if name != WEIGHT})
    one, two = sorted([other, weight_map[WEIGHT]])
    assert refusal(folder) == f"{index} does not name {WEIGHT}, which is in {one} and in {two}"


def test_one_file_beside_parts_without_their_index(folder: Path) -> None:
    part = folder / "model-00002-of-00002.safetensors"
    save_file({WEIGHT: torch.zeros(40, 48)}, part)
    assert refusal(folder) == (
        f"{folder}: {WEIGHT} is in model.safetensors and in {part.name}, and no "
        "model.safetensors.index.json says which one is meant: remove one of the files"
    )


def test_one_file_beside_an_index_of_others(shards: tuple[Path, dict[str, str]], tiny_a: Path) -> None:
    folder, weight_map = shards
    (folder / "model.safetensors").write_bytes((tiny_a / "model.safetensors").read_bytes())
    assert refusal(folder).startswith(
        f"{folder} holds two sets of weights: model.safetensors, and model-0000"
    )
    assert weight_map


def test_an_index_of_one_file(folder: Path, model: GR00T_N1_5) -> None:
    reindex(folder, dict.fromkeys(load_file(folder / "model.safetensors"), "model.safetensors"))
    again = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_parts_without_an_index_are_named(shards: tuple[Path, dict[str, str]]) -> None:
    folder, _ = shards
    (folder / "model.safetensors.index.json").unlink()
    assert "has no weights" in refusal(folder)
    assert "model-00001-of-00005.safetensors" in refusal(folder)
    assert refusal(folder).endswith("and 1 more without their index")


@pytest.mark.parametrize(
    "file",
    [
        "../model.safetensors",
        "a/../../model.safetensors",
        "/tmp/model.safetensors",
        "C:\\model.safetensors",
        "..\\model.safetensors",
        "\\\\host\\model.safetensors",
        "config.json",
        "a\0.safetensors",
    ],
)
def test_no_file_outside_the_folder_is_read(
    shards: tuple[Path, dict[str, str]], tmp_path: Path, tiny_a: Path, file: str
) -> None:
    folder, weight_map = shards
    (tmp_path / "model.safetensors").write_bytes((tiny_a / "model.safetensors").read_bytes())
    index = reindex(folder, {**weight_map, WEIGHT: file})
    assert refusal(folder) == (
        f"{index}: weight_map: {WEIGHT} is said to be in {file!r}; expected a safetensors file within "
        f"{folder}"
    )


@pytest.mark.parametrize("file", [None, 3, True, ["a"], {}, ""])
def test_an_index_of_wrong_types(folder: Path, file: object) -> None:
    index = reindex(folder, {WEIGHT: file})
    assert refusal(folder) == f"{index}: weight_map: {WEIGHT} must be in a file, got {file!r}"


@pytest.mark.parametrize("weight_map", [None, [], "model.safetensors", 1])
def test_a_map_that_is_none(folder: Path, weight_map: object) -> None:
    index = reindex(folder, weight_map)
    assert refusal(folder) == f"{index}: weight_map must be an object, got {weight_map!r}"


def test_an_entry_twice_in_the_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(f'{{"weight_map": {{"{WEIGHT}": "a.safetensors", "{WEIGHT}": "model.safetensors"}}}}')
    assert refusal(folder) == f"{index}: not JSON (an object has two entries {WEIGHT!r})"


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "[" * 100_000])
def test_what_only_python_calls_json_in_a_configuration(folder: Path, text: str) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace("{", f'{{"extra": {text},', 1))
    assert refusal(folder).startswith(f"{config}: not JSON (")


def test_links_as_in_the_hubs_cache_are_followed(
    shards: tuple[Path, dict[str, str]], tmp_path: Path, model: GR00T_N1_5
) -> None:
    folder, _ = shards
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("..") / "blobs" / str(number))
    again = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "name", ["model.safetensors.index.json", "model.safetensors", "eagle_config.json", "config.json"]
)
def test_a_link_to_nothing_is_no_absent_file(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "blobs" / "gone")
    problem = "is a link to a file that is not there; download the checkpoint again"
    assert refusal(folder) == f"{folder / name} {problem}"


def test_the_folder_below_is_named(folder: Path) -> None:
    (folder / "checkpoint-500").mkdir()
    (folder / "config.json").rename(folder / "checkpoint-500" / "config.json")
    assert refusal(folder) == (
        f"{folder} is not a GR00T checkpoint: it has no config.json, but holds checkpoint-500 (newest "
        f"first); give --model-path {folder / 'checkpoint-500'}"
    )


def test_other_files_are_not_read_and_named(
    folder: Path, model: GR00T_N1_5, caplog: pytest.LogCaptureFixture
) -> None:
    save_file({WEIGHT: torch.zeros(40, 48)}, folder / "optimizer.safetensors")
    (folder / "z.safetensors").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        again = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    assert f"{folder}: not read, since no weights of this checkpoint: optimizer.safetensors, z" in caplog.text


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "adapter_model.bin"])
def test_an_adapter_is_not_left_out_silently(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    assert refusal(folder) == (
        f"{folder} holds a LoRA adapter ({name}) and a whole checkpoint (model.safetensors); some programs "
        "read the first, some the second: move one into a folder of its own"
    )


def test_a_pointer_of_git_lfs(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert refusal(folder) == (
        f"{folder}: model.safetensors: pointers of Git LFS, not the files; run in it: git lfs pull"
    )


def test_a_folder_named_like_the_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.unlink()
    file.mkdir()
    assert refusal(folder) == f"{file}: cannot be read (Is a directory)"


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [-40, -48], "data_offsets": [0, 7680]},
        {"dtype": "F32", "shape": [40, 48.0], "data_offsets": [0, 7680]},
        {"dtype": "F32", "shape": [True, 1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [40, 48], "data_offsets": [-7680, 0]},
    ],
)
def test_shapes_and_places_that_are_none(folder: Path, entry: object) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    text = json.dumps({**json.loads(whole[8 : 8 + length]), WEIGHT: entry}).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    assert refusal(folder) == f"{file}: corrupt header at {WEIGHT}: {entry!r}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_weights_that_are_not_finite_are_named(folder: Path, value: float, place: int) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors[WEIGHT].view(-1)[place] = value

    rewrite(folder, damage)
    assert refusal(folder) == (
        f"{folder}: 1 weights hold inf or NaN, or numbers too large for the model's dtype: "
        f"{WEIGHT} (model.safetensors, F32)"
    )


def test_weights_too_large_for_the_models_dtype(folder: Path) -> None:
    rewrite(
        folder, lambda tensors: tensors.update({WEIGHT: torch.full((40, 48), 1e300, dtype=torch.float64)})
    )
    assert f"{WEIGHT} (model.safetensors, F64)" in refusal(folder)


def test_a_buffer_of_positions_does_not_matter(folder: Path, model: GR00T_N1_5) -> None:
    rewrite(folder, lambda tensors: tensors.update({"a.position_ids": torch.arange(9)}))
    again = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_a_save_that_is_killed_leaves_no_mixture(
    folder: Path, model: GR00T_N1_5, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gr00t.model.checkpoint.folder.write_index", killed)
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(folder)
    assert refusal(folder).endswith("model-00001-of-00001.safetensors without their index")
