"""What a folder is that is given as a checkpoint. Oracle: the text, which also says what to give instead."""

from __future__ import annotations

import json
import os
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from gr00t.model.checkpoint import folder_kind
from gr00t.model.checkpoint.folder import save_checkpoint
from gr00t.model.checkpoint.folder_kind import FolderKind, newest_first, recognize
from gr00t.model.checkpoint.hub import resolve_checkpoint
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.meta_model import find_config
from gr00t.model.preprocessing.tokenizer import TokenizerError, load_tokenizer
from gr00t.quantization.checkpoint.manifest import FILE
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from tests.model.parity_set import rewrite

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def refusal(folder: Path | str) -> str:
    """With which text all that opens checkpoints refuses one."""
    texts = []
    for opens in (GR00T_N1_5.from_pretrained, find_config):
        with pytest.raises(CheckpointError) as error:
            opens(folder)
        texts.append(str(error.value))
    assert texts[0] == texts[1]
    return texts[0]


def config(folder: Path, **values: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"model_type": "gr00t_n1"}, "GR00T N1; serve it with NVIDIA's Isaac-GR00T of that version"),
        ({"model_type": "Gr00tN1d6"}, "GR00T N1.6; serve it with NVIDIA's Isaac-GR00T of that version"),
        ({"model_type": "qwen3_vl"}, "a model of type 'qwen3_vl'"),
        ({"type": "pi0"}, "a pi0 policy of lerobot; serve it with lerobot"),
        ({"type": "pi0_fast"}, "a pi0-FAST policy of lerobot; serve it with lerobot"),
        ({"type": "smolvla"}, "a SmolVLA policy of lerobot; serve it with lerobot"),
        ({"type": "act"}, "an ACT policy of lerobot; serve it with lerobot"),
        ({"type": "unheard"}, "a policy of type 'unheard' of lerobot; serve it with lerobot"),
        (
            {"type": "groot", "model_version": "n1.7"},
            "GR00T N1.7 as lerobot 0.6 and later train it; serve it with that lerobot",
        ),
        (
            {"type": "groot", "base_model_path": "nvidia/GR00T-N1.7-3B"},
            "GR00T N1.7 as lerobot 0.6 and later train it; serve it with that lerobot",
        ),
    ],
)
def test_another_family_is_named(tmp_path: Path, values: dict[str, str], what: str) -> None:
    folder = config(tmp_path / "other", **values)
    assert refusal(folder) == f"{folder} is {what}; opened here: GR00T N1.5 and GR00T N1.7"


def test_the_kinds_that_can_be_opened(tmp_path: Path, tiny_a: Path) -> None:
    assert recognize(tiny_a) is FolderKind.NVIDIA
    for began in ("nvidia/GR00T-N1.5-3B", "/somewhere/run17/base", "outputs/train1.7/gr00t"):
        folder = config(tmp_path / "groot", type="groot", base_model_path=began)
        assert recognize(folder) is FolderKind.LEROBOT
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.bin").touch()
    assert recognize(tmp_path / "adapter") is FolderKind.ADAPTER
    assert (folder_kind.SIDECAR, folder_kind.EXPORTED_FILE) == (SIDECAR, FILE)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["model.Q4_K_M.gguf"], "is a model in GGUF, for llama.cpp; give the checkpoint that it was"),
        (["global_step500/x.pt", "latest"], "has the state of a DeepSpeed training and no weights"),
        (["pytorch_model_fsdp_0/__0_0.distcp"], "has the shards of an FSDP training and no weights"),
        (["pytorch_model.bin"], "has its weights in pickled files, which may run code as they are read"),
        (["pytorch_model-00001-of-00002.bin"], "has its weights in pickled files"),
        (["optimizer.pt", "scheduler.pt"], "is the state of a training, without weights"),
        (["optimizer_state.safetensors", "rng_state.safetensors"], "is the state of a training"),
        (
            ["_CHECKPOINT_METADATA"],
            "is a checkpoint of JAX (Orbax), as openpi writes them, and no GR00T",
        ),
        (
            ["backbone.onnx"],
            "holds a compiled graph and no weights; give the checkpoint that it was made from",
        ),
        (["policy.pt"], "holds pickled files and no safetensors"),
        (["epoch=3.ckpt"], "holds pickled files and no safetensors"),
    ],
)
@pytest.mark.parametrize("configured", [False, True])
def test_what_is_there_in_place_of_weights_is_named(
    tmp_path: Path, tiny_a: Path, names: list[str], what: str, configured: bool
) -> None:
    folder = tmp_path / "x"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if configured:
        for name in ("config.json", "eagle_config.json"):
            (folder / name).write_bytes((tiny_a / name).read_bytes())
        with pytest.raises(CheckpointError) as error:
            GR00T_N1_5.from_pretrained(folder)
        text = str(error.value)
        assert text.startswith(f"{folder} has no weights: neither model.safetensors nor model.safetensors.in")
    else:
        text = refusal(folder)
    assert what in text
    assert Path(names[0]).parts[0] in text


def test_checkpoints_of_a_training_are_listed_newest_first(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (500, 1000, 9500):
        config(run / f"checkpoint-{step}", model_type="gr00t_n1_5")
    assert refusal(run) == (
        f"{run} is not a GR00T checkpoint: it has no config.json, but holds checkpoint-9500, "
        f"checkpoint-1000, checkpoint-500 (newest first); give --model-path {run}/checkpoint-9500"
    )
    lerobot = tmp_path / "train"
    for step in ("005000", "020000"):
        config(lerobot / "checkpoints" / step / "pretrained_model", type="groot")
    (lerobot / "checkpoints" / "last").symlink_to("020000")
    assert [str(path.relative_to(lerobot)) for path in newest_first(lerobot)] == [
        "checkpoints/020000/pretrained_model",
        "checkpoints/005000/pretrained_model",
    ]
    for folder in (lerobot, lerobot / "checkpoints", lerobot / "checkpoints" / "020000"):
        assert refusal(folder).endswith(f"{lerobot}/checkpoints/020000/pretrained_model")


def test_an_empty_folder_a_cache_and_weights_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").endswith("it has no config.json; it is empty")
    (tmp_path / "models--nvidia--GR00T-N1.5-3B" / "snapshots").mkdir(parents=True)
    assert refusal(tmp_path / "models--nvidia--GR00T-N1.5-3B").endswith(
        "it is the hub's cache of nvidia/GR00T-N1.5-3B: give that name"
    )
    (tmp_path / "bare").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "bare" / "model.safetensors")
    assert "only weights; copy the config.json that belongs to them into it" in refusal(tmp_path / "bare")


@pytest.mark.parametrize(
    "name", ["config.json", "eagle_config.json", "experiment_cfg/metadata.json", "vocab.json"]
)
def test_pointers_of_git_lfs_are_named(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(POINTER)
    assert refusal(folder) == (
        f"{folder}: {name}: pointers of Git LFS, not the files; run in it: git lfs pull"
    )


def test_a_tokenizer_that_git_lfs_has_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(POINTER)
    with pytest.raises(
        TokenizerError, match=r"tokenizer\.json is a pointer of Git LFS, .* run: git lfs pull"
    ):
        load_tokenizer(tmp_path)


def test_a_file_of_a_checkpoint(folder: Path) -> None:
    file = folder / "model.safetensors"
    assert refusal(file).endswith(f"safetensors files; give {folder}")
    file = folder / "model.Q8_0.gguf"
    file.touch()
    assert refusal(file).startswith(
        f"{file} is a model in GGUF, for llama.cpp; a checkpoint is a folder with"
    )


def test_a_shard_whose_download_was_broken_off(folder: Path, model: GR00T_N1_5) -> None:
    save_checkpoint(model, model.config, folder, shard_bytes=1_000_000)
    (folder / "model-00002-of-00005.safetensors").unlink()
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "f00.incomplete").touch()
    with pytest.raises(CheckpointError) as error:
        GR00T_N1_5.from_pretrained(folder)
    assert str(error.value).endswith(
        f"which is not in {folder}, which is half a download: f00.incomplete; download it again"
    )


def test_half_a_download_offline_is_told_by_its_missing_files(
    tmp_path: Path, tiny_a: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(hub_id: str, **kwargs: object) -> str:
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--somebody--policy"
    snapshot = cached / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    (cached / "blobs").mkdir()
    (cached / "blobs" / "f00.incomplete").touch()
    (snapshot / "config.json").write_bytes((tiny_a / "config.json").read_bytes())
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (snapshot / shards["a"]).touch()
    told = (
        "somebody/policy: no such folder, and the hub's cache has it at commit abc123, but without "
        "model-00002-of-00002.safetensors (1 begun: *.incomplete): go online once, or copy what is missing "
        f"into {snapshot}"
    )
    with pytest.raises(CheckpointError) as error:
        resolve_checkpoint("somebody/policy")
    assert str(error.value) == told
    # The library returns such a folder where it does not know what belongs to it.
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda hub_id, **kwargs: str(snapshot))
    with pytest.raises(CheckpointError) as error:
        resolve_checkpoint("somebody/policy")
    assert str(error.value) == told
    (snapshot / "model.safetensors.index.json").unlink()
    assert resolve_checkpoint("somebody/policy") == snapshot  # the hub may have no more
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        CheckpointError, match=r"but without model\.safetensors \(or model\.safetensors\.index"
    ):
        resolve_checkpoint("somebody/policy")
    os.symlink(tiny_a / "model.safetensors", snapshot / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert resolve_checkpoint("somebody/policy") == snapshot


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("vision.embeddings.position_ids", torch.int16),
        ("vision.embeddings.position_ids", torch.uint8),
        ("vision.norm.num_batches_tracked", torch.int64),
        ("layers.0.rotary_emb.inv_freq", torch.float32),
        ("layers.0.token_types", torch.int32),
    ],
)
def test_buffers_that_every_program_computes_anew_do_not_stop_a_checkpoint(
    folder: Path, model: GR00T_N1_5, name: str, dtype: torch.dtype
) -> None:
    rewrite(folder, lambda tensors: tensors.update({f"backbone.{name}": torch.ones(4).to(dtype)}))
    again = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, again[ours]) for ours, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("action_head.gate.weight", torch.float16),
        ("action_head.gate.qweight", torch.int32),
        ("action_head.gate.codes", torch.int8),
        ("action_head.gate.weight", torch.float8_e4m3fn),
    ],
)
def test_weights_that_nothing_reads_still_stop_a_checkpoint(
    folder: Path, name: str, dtype: torch.dtype
) -> None:
    rewrite(folder, lambda tensors: tensors.update({name: torch.ones(4).to(dtype)}))
    with pytest.raises(CheckpointError, match=rf"left over, in no module of this architecture: {name} \("):
        GR00T_N1_5.from_pretrained(folder)


def test_a_lora_that_was_saved_with_its_base_is_named(folder: Path) -> None:
    name = "action_head.model.transformer_blocks.0.attn1.to_q"
    rewrite(folder, lambda tensors: tensors.update({f"{name}.lora_A.default.weight": torch.ones(4, 48)}))
    with pytest.raises(
        CheckpointError, match=r"\n  a LoRA that is not merged is among them; merge it with peft"
    ):
        GR00T_N1_5.from_pretrained(folder)


def test_a_tensor_that_is_stored_once_for_two_names(folder: Path, model: GR00T_N1_5) -> None:
    kept = "backbone.eagle_model.language_model.lm_head.weight"
    dropped = "backbone.eagle_model.language_model.model.embed_tokens.weight"
    tensors: dict[str, torch.Tensor] = {}
    rewrite(folder, tensors.update)
    tensors[kept] = tensors.pop(dropped)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", dropped: kept})
    again = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, again[ours]) for ours, tensor in model.state_dict().items())
