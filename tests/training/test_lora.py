"""LoRA. Oracles: peft itself, merging in place or loading what was saved; and the layers by NVIDIA's rule."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import peft
import pytest
import torch
from torch import nn

from gr00t.model.checkpoint.folder import checkpoint_tensors, module_aliases
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.training.lora import LoraError, LoraPlan, add_lora_, lora_layers, merged, save_adapter
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import Trainer
from tests.training.samples import InventedSamples, bound_transform

CPU = torch.device("cpu")
PLAN = LoraPlan(rank=4, alpha=32, backbone=True)


def trainer(checkpoint: Path, **changes: object) -> Trainer:
    settings: dict[str, object] = {
        "steps": 2,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "parts": (),
        "lora": PLAN,
    }
    plan = TrainingPlan(**{"precision": "float32", **settings, **changes})  # type: ignore[arg-type]
    samples = InventedSamples(checkpoint, 3)
    model = GR00T_N1_5.from_pretrained(checkpoint)
    return Trainer(model, samples, bound_transform(checkpoint, samples.metadata), plan, CPU)


@pytest.fixture(scope="module")
def trained(checkpoint: Path) -> Trainer:
    run = trainer(checkpoint, parts=("projector",))
    list(run.run())
    return run


@pytest.mark.parametrize("backbone", [False, True])
def test_the_layers_are_those_of_the_reference(checkpoint: Path, backbone: bool) -> None:
    model = GR00T_N1_5.from_pretrained(checkpoint)
    aliases = module_aliases(model)
    # Isaac-GR00T: Linears with one of these in NVIDIA's name, in the action head only unless told otherwise.
    wanted = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and re.search(r"q_proj|v_proj|to_q|to_v|k_proj|to_k", aliases[name])
        and (backbone or "action_head" in aliases[name])
    }
    assert set(lora_layers(model, backbone=backbone)) == wanted
    assert len(wanted) == (30 if backbone else 18)


def test_only_lora_is_trained_and_at_first_nothing_changes(checkpoint: Path) -> None:
    run = trainer(checkpoint)
    assert all(".lora_" in name for name in run.trained())
    assert len(run.trained()) == 60
    before = GR00T_N1_5.from_pretrained(checkpoint).state_dict()
    assert dict(run.weights()).keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in run.weights())
    list(run.run())
    changed = {name for name, value in run.weights() if not torch.equal(value, before[name])}
    assert changed == {
        f"{name}.weight" for name in lora_layers(GR00T_N1_5.from_pretrained(checkpoint), backbone=True)
    }


def test_merged_weights_are_those_of_peft_and_act_as_the_adapter_does(
    trained: Trainer, checkpoint: Path
) -> None:
    ours = dict(trained.weights())
    samples = InventedSamples(checkpoint, 2)
    inputs = bound_transform(checkpoint, samples.metadata)
    inputs.eval()
    request = inputs({key: value for key, value in samples.batch([0, 1]).items() if "action" not in key})
    plain = GR00T_N1_5.from_pretrained(checkpoint)
    before = plain.get_action(request, seeds=[1, 2])["action_pred"]
    trained.model.eval()
    beside = trained.model.get_action(request, seeds=[1, 2])["action_pred"]
    plain.load_state_dict(ours)
    after = plain.get_action(request, seeds=[1, 2])["action_pred"]
    # Measured on an AMD EPYC, of actions up to 4.7: LoRA moves them by 2.3; merged or not, they are 8e-7
    # apart.
    assert float((after - before).abs().max()) > 0.5
    assert float((after - beside).abs().max()) < 1e-5
    layers = [module for module in trained.model.modules() if isinstance(module, peft.tuners.lora.LoraLayer)]
    names = [name for name, module in trained.model.named_modules() if module in layers]
    for name, layer in zip(names, layers, strict=True):
        layer.merge()
        assert torch.equal(layer.get_base_layer().weight, ours[f"{name}.weight"]), name
        layer.unmerge()


def test_what_is_saved_fits_peft_and_nvidias_names(
    trained: Trainer, checkpoint: Path, tmp_path: Path
) -> None:
    assert trained.plan.lora is not None
    save_adapter(trained.trained(), trained.plan.lora, tmp_path, "base")
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (said["r"], said["lora_alpha"], said["base_model_name_or_path"]) == (4, 32, "base")
    wanted = nested(checkpoint_tensors(GR00T_N1_5.from_pretrained(checkpoint)))
    loaded = peft.PeftModel.from_pretrained(wanted, str(tmp_path))
    state = loaded.merge_and_unload().state_dict()
    model = GR00T_N1_5.from_pretrained(checkpoint)
    model.load_state_dict(dict(trained.weights()))
    for name, tensor in checkpoint_tensors(model).items():
        assert torch.equal(state[name], tensor), name


def nested(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Modules with these parameters by name; matrices are Linears, which is all that peft must know."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *modules, leaf = name.split(".")
        place = root
        for depth, part in enumerate(modules, 1):
            if not hasattr(place, part):
                layer = ".".join(modules[:depth])
                weight = tensors.get(f"{layer}.weight", torch.zeros(0))
                made = nn.Module()
                if weight.ndim == 2:
                    made = nn.Linear(*reversed(weight.shape), bias=f"{layer}.bias" in tensors)
                place.add_module(part, made)
            place = getattr(place, part)
        setattr(place, leaf, nn.Parameter(tensor.clone()))
    return root


def test_dropout_is_drawn_anew_every_step_and_again_when_a_run_goes_on(
    checkpoint: Path, tmp_path: Path
) -> None:
    settings = {"steps": 3, "lora": LoraPlan(rank=4, alpha=32, dropout=0.5)}
    whole = trainer(checkpoint, **settings)
    losses = [figures["loss"] for figures in whole.run()]
    first = trainer(checkpoint, **settings)
    steps = first.run()
    next(steps)
    first.save(tmp_path)
    steps.close()
    torch.manual_seed(99)  # the generator that all share means nothing
    second = trainer(checkpoint, **settings)
    assert second.resume(tmp_path)
    assert [figures["loss"] for figures in second.run()] == losses[1:]
    kept = dict(second.weights())
    assert all(torch.equal(value, kept[name]) for name, value in whole.weights())
    without = trainer(checkpoint, steps=3, lora=LoraPlan(rank=4, alpha=32, dropout=0.0))
    assert [figures["loss"] for figures in without.run()][1:] != losses[1:]


def test_averaged_matrices_are_merged_as_they_are(checkpoint: Path) -> None:
    run = trainer(checkpoint, ema_decay=0.9)
    list(run.run())
    values = run.trained()
    name = "action_head.layers.0.attn.q_proj"
    product = values[f"{name}.lora_B.default.weight"] @ values[f"{name}.lora_A.default.weight"]
    before = GR00T_N1_5.from_pretrained(checkpoint).state_dict()[f"{name}.weight"]
    assert torch.equal(dict(run.weights())[f"{name}.weight"], before + product * 8.0)


def test_names_of_a_model_without_lora_are_left_alone() -> None:
    state = {"a.weight": torch.ones(2, 2), "a.bias": torch.zeros(2)}
    assert dict(merged(state, 1.0)) == state


def test_without_peft_one_line_says_what_to_install(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        LoraError, match=r"LoRA needs the package peft, which is not installed; run: .*setup_env.sh train"
    ):
        add_lora_(GR00T_N1_5.from_pretrained(checkpoint), PLAN, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "lora_rank: expected at least 1, or 0 for no LoRA, got 0"),
        ({"rank": 4, "alpha": float("inf")}, "lora_alpha: expected a positive number, got inf"),
        ({"rank": 4, "dropout": 1.0}, r"lora_dropout: expected a number in \[0, 1\), got 1.0"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraPlan(**changes)  # type: ignore[arg-type]


def test_whole_layers_beside_lora_are_refused() -> None:
    with pytest.raises(ValueError, match=r"parts: diffusion beside LoRA: .* expected none, or projector"):
        TrainingPlan(steps=1, lora=PLAN, parts=("projector", "diffusion"))
