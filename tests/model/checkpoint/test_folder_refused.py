"""Checkpoint folders that cannot be used: each names the file, and the key where there is one.

Oracle: the text of each message.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from gr00t.model.checkpoint.folder import CheckpointError, resolve_checkpoint, save_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from tests.model.parity_set import rewrite

WEIGHT = "action_head.model.proj_out_2.weight"


def refusal(folder: Path | str) -> str:
    """The message with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as error:
        GR00T_N1_5.from_pretrained(folder)
    return str(error.value)


def test_not_found(tmp_path: Path) -> None:
    missing = tmp_path / "checkpoints" / "gr00t"
    assert (
        refusal(missing)
        == f"{missing}: no such folder (and not a model hub id of the form ORGANIZATION/NAME)"
    )
    file = tmp_path / "model.bin"
    file.touch()
    assert (
        refusal(file) == f"{file} is a file; a checkpoint is a folder with config.json and safetensors files"
    )


def test_no_network_and_nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(hub_id: str, **kwargs: object) -> str:
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert refusal("nvidia/GR00T-N1.5-3B") == (
        "nvidia/GR00T-N1.5-3B: no such folder, and it is not in the local cache, "
        "and the model hub cannot be reached (no network, or offline mode)"
    )


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (RepositoryNotFoundError, "the model hub has no such model (or it is private: set HF_TOKEN)"),
        (GatedRepoError, "the model hub asks for a login: accept its licence there and set HF_TOKEN"),
    ],
)
def test_a_hub_that_refuses(monkeypatch: pytest.MonkeyPatch, error: type[Exception], problem: str) -> None:
    def refuse(hub_id: str, **kwargs: object) -> str:
        # Its constructor wants an HTTP response, which says nothing here.
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert refusal("nvidia/nothing") == f"nvidia/nothing: no such folder, and {problem}"


def test_only_what_a_policy_needs_is_downloaded(monkeypatch: pytest.MonkeyPatch, tiny_a: Path) -> None:
    wanted = ["config.json", "model-00001-of-00002.safetensors", "experiment_cfg/metadata.json", "merges.txt"]
    unwanted = ["checkpoint-100/model-00001-of-00002.safetensors", "optimizer.pt", "runs/events.out"]
    asked = {}

    def record(hub_id: str, **kwargs: object) -> str:
        asked.update(kwargs)
        return str(tiny_a)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", record)
    resolve_checkpoint("nvidia/GR00T-N1.5-3B")
    assert list(filter_repo_objects([*wanted, *unwanted], **asked)) == wanted


def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(hub_id: str, **kwargs: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    assert (
        refusal("a/b")
        == "a/b: no such folder, and the download from the model hub failed: No space left on device"
    )


def test_a_hub_id_is_the_folder_that_the_hub_gives(monkeypatch: pytest.MonkeyPatch, tiny_a: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda hub_id, **kwargs: str(tiny_a))
    assert resolve_checkpoint("nvidia/GR00T-N1.5-3B") == tiny_a


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert (
        refusal(folder)
        == f"{folder} has no weights: neither model.safetensors nor model.safetensors.index.json"
    )


@pytest.mark.parametrize("keep", [4, 20_000])
def test_a_file_that_ends_within_its_header(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert refusal(folder) == f"{file}: truncated or no safetensors file: {keep} bytes end within its header"


def test_a_header_of_a_gigabyte_is_not_read(folder: Path) -> None:
    file = folder / "model.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", 1 << 30))
        stream.truncate((1 << 30) + 8)  # takes no room on the disk
    assert refusal(folder) == f"{file}: corrupt header (1,073,741,824 bytes, expected at most 100,000,000)"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal(folder) == f"{folder / name}: expected a file, it is a pipe, a socket or a device"


def test_a_file_that_ends_within_its_data(folder: Path) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1000])
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    total = len(whole) - 8 - length
    first = next(
        name for name, entry in header.items() if entry.get("data_offsets", [0, 0])[1] > total - 1000
    )
    end = header[first]["data_offsets"][1]
    assert refusal(folder) == (
        f"{file}: truncated: {first} ends at byte {end} of the data, of which {total - 1000} are there"
    )


def test_a_corrupt_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[8:12] = b"\xff\x00{{"
    file.write_bytes(damaged)
    assert refusal(folder).startswith(f"{file}: corrupt header (")


def with_header_entry(file: Path, entry: object) -> None:
    """Replace the header's entry of one weight, keeping the data."""
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = {**json.loads(whole[8 : 8 + length]), WEIGHT: entry}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nonsense", f"corrupt header at {WEIGHT}: 'nonsense'"),
        (
            {"dtype": "F32", "shape": [40, 48], "data_offsets": [0, 4]},
            f"corrupt header at {WEIGHT}: 4 bytes for shape [40, 48] of F32",
        ),
        (
            {"dtype": "F4", "shape": [2], "data_offsets": [0, 4]},
            f"{WEIGHT} has dtype F4; supported: F64, F32, F16, BF16, I64, U64, I32, U32, I16, U16, I8, U8, "
            "BOOL, F8_E4M3, F8_E5M2, F8_E8M0, C64",
        ),
    ],
)
def test_a_corrupt_entry_of_the_header(folder: Path, entry: object, message: str) -> None:
    file = folder / "model.safetensors"
    with_header_entry(file, entry)
    assert refusal(folder) == f"{file}: {message}"


def test_integers_where_a_float_weight_belongs(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({WEIGHT: torch.zeros(40, 48, dtype=torch.int8)}))
    assert refusal(folder).endswith(
        f"\n  wrong dtype: {WEIGHT} in model.safetensors is I8, expected torch.float32"
    )


@pytest.mark.parametrize("start", [36, 44])
def test_entries_that_overlap_or_leave_a_gap(folder: Path, start: int) -> None:
    file = folder / "model.safetensors"
    places = {"a": [0, 40], "b": [start, start + 40]}
    entries = {name: {"dtype": "F32", "shape": [10], "data_offsets": place} for name, place in places.items()}
    text = json.dumps(entries).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(start + 40))
    assert refusal(folder) == (
        f"{file}: corrupt header at b: its bytes begin at {start}, those before end at 40"
    )


def test_bytes_that_belong_to_no_tensor(folder: Path) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole + b"!")
    data = len(whole) - 8 - int.from_bytes(whole[:8], "little")
    assert (
        refusal(folder) == f"{file}: longer than its header says: {data + 1} bytes of data, expected {data}"
    )


def fit(folder: Path) -> str:
    return f"{folder}: the weights do not fit config.json and eagle_config.json\n  "


def test_missing_keys(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop(WEIGHT))
    assert refusal(folder) == f"{fit(folder)}missing: {WEIGHT}"


def test_many_missing_keys_are_counted(folder: Path) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "vl_self_attention" in name]:
            del tensors[name]

    rewrite(folder, drop)
    assert refusal(folder).endswith(" and 24 more")


def test_left_over_keys(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"action_head.gate.weight": torch.zeros(2)}))
    assert refusal(folder) == (
        f"{fit(folder)}left over, in no module of this architecture: "
        "action_head.gate.weight (model.safetensors)"
    )


def test_wrong_shape_and_everything_else_in_one_message(folder: Path) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors[WEIGHT] = torch.zeros(40, 47)
        tensors["x"] = torch.zeros(1)
        del tensors["action_head.vlln.bias"]

    rewrite(folder, damage)
    assert refusal(folder) == (
        f"{fit(folder)}missing: action_head.vlln.bias\n"
        "  left over, in no module of this architecture: x (model.safetensors)\n"
        f"  wrong shape: {WEIGHT} in model.safetensors is (40, 47), the architecture has (40, 48)"
    )


def sharded(folder: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    """Write the copied checkpoint again in shards; the index's path and content."""
    model = GR00T_N1_5.from_pretrained(folder)
    save_checkpoint(model, model.config, folder, shard_bytes=1_000_000)
    index = folder / "model.safetensors.index.json"
    return index, json.loads(index.read_text())


def test_an_index_that_names_a_missing_shard(folder: Path) -> None:
    index, content = sharded(folder)
    shard = content["weight_map"][WEIGHT]
    first = next(name for name, file in content["weight_map"].items() if file == shard)
    (folder / shard).unlink()
    assert refusal(folder) == f"{index} names {shard} (for {first}), which is not in {folder}"


def test_an_index_that_names_the_wrong_shard(folder: Path) -> None:
    index, content = sharded(folder)
    right = content["weight_map"][WEIGHT]
    wrong = next(file for file in content["weight_map"].values() if file != right)
    content["weight_map"][WEIGHT] = wrong
    index.write_text(json.dumps(content))
    assert refusal(folder) == f"{index} says that {WEIGHT} is in {wrong}, but it is not"


def test_an_index_without_a_map(folder: Path) -> None:
    index, _ = sharded(folder)
    index.write_text("{}")
    assert refusal(folder) == f"{index}: weight_map must be an object, got None"
    index.write_text("{")
    assert refusal(folder).startswith(f"{index}: not JSON (")


def test_a_module_without_a_name_in_nvidias_layout_is_not_written(tmp_path: Path, model: GR00T_N1_5) -> None:
    model.action_head.gate = torch.nn.Linear(2, 2, bias=False)
    with pytest.raises(CheckpointError, match=r"no name in NVIDIA's .* layout for action_head\.gate\.weight"):
        model.save_pretrained(tmp_path)
