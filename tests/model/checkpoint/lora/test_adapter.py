"""LoRA adapters merged as they are loaded. Oracle: peft itself, which writes them and merges its own copy."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.names import N1_5_NAMES
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.meta_model import find_config

QUERY = "action_head.model.transformer_blocks.0.attn1.to_q"
KEY = "action_head.model.transformer_blocks.1.attn1.to_k"
LANGUAGE = "backbone.eagle_model.language_model.model.layers.0.self_attn.v_proj"
TOKENS = "backbone.eagle_model.language_model.model.embed_tokens"
WHOLE = "action_head.model.proj_out_2"


def tree(model: GR00T_N1_5, dtype: torch.dtype) -> nn.Module:
    """Some layers of a model under NVIDIA's names, as modules that peft can change."""
    state = model.state_dict()
    root = nn.Module()
    root.prepare_inputs_for_generation = None  # what peft asks of a language model
    for name in (QUERY, KEY, LANGUAGE, TOKENS, WHOLE):
        *path, last = name.split(".")
        at = root
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        weight = state[f"{N1_5_NAMES.from_checkpoint(name)}.weight"].to(dtype)
        bias = state.get(f"{N1_5_NAMES.from_checkpoint(name)}.bias")
        if name == TOKENS:
            layer: nn.Module = nn.Embedding(*weight.shape, dtype=dtype)
        else:
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=dtype)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias.to(dtype)}))
        at.add_module(last, layer)
    return root


def write_adapter(
    model: GR00T_N1_5, folder: Path, dtype: torch.dtype = torch.float32, **settings: Any
) -> Any:
    """Let peft write an adapter with random numbers, and return its model."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, lora_alpha=12, **settings)
    wrapped = peft.get_peft_model(tree(model, dtype), config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter.dtype) * 0.1
    wrapped.save_pretrained(folder)
    return wrapped


def merged_by_peft(wrapped: Any) -> dict[str, Tensor]:
    return dict(wrapped.merge_and_unload().state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": [QUERY, KEY, LANGUAGE]},
        {"target_modules": [QUERY, KEY], "use_rslora": True},
        {"target_modules": [QUERY, KEY], "fan_in_fan_out": True},
        {
            "target_modules": [QUERY, KEY, LANGUAGE],
            "rank_pattern": {"to_q": 2, r"layers\.\d+\.self_attn.v_proj": 6},
            "alpha_pattern": {"attn1.to_k": 5},
        },
        {"target_modules": [QUERY], "modules_to_save": [WHOLE.rpartition(".")[2]]},
        {"target_modules": [QUERY, TOKENS]},
        {"target_modules": [QUERY], "lora_bias": True},
        {"target_modules": [QUERY], "init_lora_weights": "gaussian"},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_a_merged_adapter_is_what_peft_merges(
    model: GR00T_N1_5, tiny_a: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = merged_by_peft(write_adapter(model, tmp_path, **settings))
    again = GR00T_N1_5.from_pretrained(tmp_path, base=tiny_a).state_dict()
    changed = set()
    for ours, tensor in again.items():
        theirs = expected.get(N1_5_NAMES.to_checkpoint(ours) or "")
        assert torch.equal(tensor, before[ours] if theirs is None else theirs), ours
        if not torch.equal(tensor, before[ours]):
            changed.add(ours)
    assert len(changed) >= len(settings["target_modules"])


def test_in_bfloat16_it_is_rounded_once_as_peft_does(model: GR00T_N1_5, tiny_a: Path, tmp_path: Path) -> None:
    base = GR00T_N1_5.from_pretrained(tiny_a, torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    expected = merged_by_peft(
        write_adapter(base, tmp_path / "adapter", torch.bfloat16, target_modules=[QUERY, KEY])
    )
    again = GR00T_N1_5.from_pretrained(tmp_path / "adapter", torch.bfloat16, base=tmp_path / "base")
    for name in (QUERY, KEY):
        ours = again.state_dict()[f"{N1_5_NAMES.from_checkpoint(name)}.weight"]
        assert torch.equal(ours, expected[f"{name}.weight"])
        assert not torch.equal(ours, base.state_dict()[f"{N1_5_NAMES.from_checkpoint(name)}.weight"])


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter to damage, written without peft."""
    tensors = {
        f"base_model.model.{QUERY}.lora_A.weight": torch.ones(4, 48),
        f"base_model.model.{QUERY}.lora_B.weight": torch.ones(48, 4),
    }
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "nvidia/GR00T-N1.5-3B"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def load(adapter: Path, tiny_a: Path) -> dict[str, Tensor]:
    return GR00T_N1_5.from_pretrained(adapter, base=tiny_a).state_dict()


def refusal(adapter: Path, base: Path | None) -> str:
    with pytest.raises(CheckpointError) as error:
        GR00T_N1_5.from_pretrained(adapter, base=base)
    return str(error.value)


def configure(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rewrite(adapter: Path, change: Any) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")


def test_without_a_base_it_says_what_it_is_and_what_to_do(adapter: Path) -> None:
    told = (
        f"{adapter} holds a LoRA adapter, changes to a checkpoint and no checkpoint; give what it was "
        "trained on: --base nvidia/GR00T-N1.5-3B; or merge them once: python scripts/merge_adapter.py "
        f"{adapter} OUT --base nvidia/GR00T-N1.5-3B"
    )
    assert refusal(adapter, None) == told
    with pytest.raises(CheckpointError) as error:
        find_config(adapter)
    assert str(error.value) == told


def test_the_formula(adapter: Path, tiny_a: Path, model: GR00T_N1_5) -> None:
    name = f"{N1_5_NAMES.from_checkpoint(QUERY)}.weight"
    # alpha / r * (B @ A) = 8 / 4 * 4 everywhere.
    assert torch.equal(load(adapter, tiny_a)[name], model.state_dict()[name] + 8)
    configure(adapter, use_rslora=True)
    assert torch.equal(load(adapter, tiny_a)[name], model.state_dict()[name] + 16)


def test_the_names_of_lerobots_wrapper_and_of_older_files(
    adapter: Path, tiny_a: Path, model: GR00T_N1_5
) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for name in [*tensors]:
            new = name.replace("base_model.model.", "base_model.model._groot_model.")
            tensors[new.replace("lora_A.weight", "lora_A.default.weight")] = tensors.pop(name)

    rewrite(adapter, rename)
    name = f"{N1_5_NAMES.from_checkpoint(QUERY)}.weight"
    assert torch.equal(load(adapter, tiny_a)[name], model.state_dict()[name] + 8)


def test_a_pickle_of_tensors_is_read_and_one_with_code_is_not(
    adapter: Path, tiny_a: Path, model: GR00T_N1_5, tmp_path: Path
) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(tensors, adapter / "adapter_model.bin")
    name = f"{N1_5_NAMES.from_checkpoint(QUERY)}.weight"
    assert torch.equal(load(adapter, tiny_a)[name], model.state_dict()[name] + 8)

    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for write in (torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))):
        write({"x": Program()}, adapter / "adapter_model.bin")
        assert "adapter_model.bin: not only tensors, or damaged (" in refusal(adapter, tiny_a)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        # Without memory: what happens to be there would have been served.
        (torch.ones(4, 48, device="meta"), "got torch.float32, torch.strided on meta"),
        (torch.ones(4, 48).to_sparse(), "got torch.float32, torch.sparse_coo on cpu"),
    ],
)
def test_a_pickled_tensor_that_is_no_plain_one_is_refused(
    adapter: Path, tiny_a: Path, odd: Tensor, text: str
) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    name = f"base_model.model.{QUERY}.lora_A.weight"
    torch.save(tensors | {name: odd}, adapter / "adapter_model.bin")
    assert text in refusal(adapter, tiny_a)
    torch.save({1: torch.ones(2)}, adapter / "adapter_model.bin")
    assert "adapter_model.bin: expected tensors by name, got dict" in refusal(adapter, tiny_a)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"use_dora": True}, "use_dora = true: DoRA changes lengths of weights, too; merge it with peft"),
        ({"peft_type": "LOHA"}, "peft_type = 'LOHA'; only LORA can be merged here"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' changed the base as it began"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights = 'loftq' changed the base as it began"),
        ({"use_qalora": True}, "use_qalora = True is not known here; merge it with peft"),
        ({"target_parameters": ["W"]}, "target_parameters = ['W'] is not known here"),
        ({"new_in_peft_9": {"a": 1}}, "new_in_peft_9 = {'a': 1} is not known here"),
        ({"r": 0}, "r must be an integer >= 1, got 0"),
        ({"r": 8}, "A is (4, 48) and B (48, 4); expected (8, in) and (out, 8)"),
        ({"rank_pattern": {"to_q": 2}}, "A is (4, 48) and B (48, 4); expected (2, in) and (out, 2)"),
        ({"alpha_pattern": {"to_q": -1}}, "alpha_pattern.to_q must be a positive number, got -1"),
        ({"alpha_pattern": {"to_q": 10**400}}, "alpha_pattern.to_q must be a positive number, got 1000"),
        ({"rank_pattern": {"((.*)*)*x": 4}}, "((.*)*)*x repeats too much to be tried on every name"),
        ({"rank_pattern": {".*.*.*.*.*x": 4}}, ".*.*.*.*.*x repeats too much to be tried on every name"),
        ({"target_modules": [QUERY, KEY]}, f"says that {KEY} was trained, of which the adapter's file has"),
        (
            {"modules_to_save": ["proj_out_2"]},
            "says that proj_out_2 was trained, of which the adapter's file",
        ),
        ({"target_modules": {"a": 1}}, "target_modules must be a list of names, got {'a': 1}"),
        ({"alpha_pattern": {"(": 1}}, "pattern '(': missing ), unterminated subpattern at position"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    adapter: Path, tiny_a: Path, settings: dict[str, Any], text: str
) -> None:
    configure(adapter, **settings)
    assert text in refusal(adapter, tiny_a)


def _misspell(tensors: dict[str, Tensor]) -> None:
    for name in [*tensors]:
        tensors[name.replace("transformer_blocks.0", "transformer_block.0")] = tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            _misspell,
            "action_head.model.transformer_block.0.attn1.to_q.weight: the model has no such tensor; did you "
            f"mean {QUERY}.weight?",
        ),
        (
            lambda t: t.update({f"base_model.model.{QUERY}.lora_A.weight": torch.ones(4, 47)}),
            f"{QUERY}.weight: the adapter's is (48, 47), the model's (48, 48)",
        ),
        (
            lambda t: t.pop(f"base_model.model.{QUERY}.lora_B.weight"),
            f"{QUERY} has no lora_B; the adapter is i",
        ),
        (
            lambda t: t.update({f"base_model.model.{QUERY}.lora_magnitude_vector": torch.ones(48)}),
            "DoRA; merge it with peft",
        ),
        (
            lambda t: t.update({f"base_model.model.{QUERY}.weight": torch.ones(48, 48)}),
            f"{QUERY}.weight is changed twice, as a whole and by LoRA",
        ),
        (
            lambda t: t.update(
                {f"base_model.model.{QUERY}.lora_A.weight": torch.full((4, 48), float("nan"))}
            ),
            f"{QUERY}.lora_A.weight holds inf or NaN",
        ),
        (
            lambda t: t.update({f"base_model.model.{QUERY}.lora_A.weight": torch.full((4, 48), 1e38)}),
            f"1 weights hold inf or NaN, or numbers too large for the model's dtype: {QUERY}.weight",
        ),
        (
            lambda t: t.update({f"base_model.model.{QUERY}.lora_A.default.weight": torch.ones(4, 48)}),
            f"{QUERY} has its lora_A twice; which one is meant?",
        ),
        (
            lambda t: t.update({f"{QUERY}.lora_A.weight": torch.ones(4, 48)}),
            f"{QUERY} has its lora_A twice; which one is meant?",
        ),
        (
            lambda t: t.update(
                {
                    name.replace("model.action", "model._groot_model.action"): value.clone()
                    for name, value in t.items()
                }
            ),
            f"{QUERY}.weight is changed twice, by LoRA and by LoRA",
        ),
        (
            lambda t: t.update(
                {
                    f"base_model.model.{WHOLE}.{name}weight": torch.ones(1024, 48)
                    for name in ("", "modules_to_save.")
                }
            ),
            f"{WHOLE}.weight is changed twice, as a whole and as a whole",
        ),
        (
            lambda t: t.update(
                {f"base_model.model.{QUERY}.lora_A.weight": torch.ones(4, 48, dtype=torch.int8)}
            ),
            "lora_A.weight: expected plain floating-point numbers, got torch.int8",
        ),
    ],
)
def test_what_does_not_fit_the_base_is_listed(adapter: Path, tiny_a: Path, change: Any, text: str) -> None:
    rewrite(adapter, change)
    assert text in refusal(adapter, tiny_a)


def test_missing_parts_and_two_adapters_are_refused(adapter: Path, tiny_a: Path) -> None:
    assert refusal(adapter, adapter) == f"--base {adapter} is an adapter itself; give a whole checkpoint"
    (adapter / "adapter_model.safetensors").unlink()
    assert refusal(adapter, tiny_a).startswith(f"{adapter} has no weights: neither adapter_model.safetensors")
    save_file({"x": torch.ones(1)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").unlink()
    assert refusal(adapter, tiny_a).startswith(
        f"{adapter} has no adapter_config.json, which says by how much"
    )
