"""What the shipped recipes do to a small random checkpoint. Oracle: its layers, counted by hand.

It has 2 decoder layers of 7 linears, 4 DiT layers whose MLP has 2 and whose attention 4, 2 vision layers of
6, a connector, and 2 adapter layers of 6.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.eval.arms.recipes import find_recipes, load_recipe
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import DuQuantConfig, LinearSpec, plan
from gr00t.quantization.settings.environment import to_environ
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.testing.synthetic import synthetic_observation
from tests.shell import REPO

RECIPES = REPO / "examples" / "Libero" / "recipes"
VISION, ADAPTER, DIT_ATTENTION = 2 * 6, 2 * 6, 4 * 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("random"))


def environ(name: str) -> dict[str, str]:
    return to_environ(load_recipe(RECIPES / f"{name}.toml").settings)


def serve(checkpoint: Path, name: str) -> Gr00tPolicy:
    """The policy as a server has it, quantized by the weights alone."""
    data = LiberoDataConfig()
    return Gr00tPolicy(
        checkpoint,
        "new_embodiment",
        data.modality_config(),
        data.transform(),
        1,
        "cpu",
        environ=environ(name),
    )


def bits(report: dict[str, Any]) -> dict[str, Counter[str]]:
    """Bits and how often, by the first two parts of the layers' names."""
    found: dict[str, Counter[str]] = {}
    for name, layer in report["layers"].items():
        found.setdefault(".".join(name.split(".")[:2]), Counter())[layer["bits"]] += 1
    return found


@pytest.mark.parametrize(
    ("name", "weights", "vision"),
    [
        ("bf16", None, None),
        ("grey", None, None),
        ("recommended", "W4 A8", None),
        ("rtn", "W4 A8", None),
        ("static_one_batch", "W4 A8", None),
        ("vision_w2", "W4 A8", "W2 A8"),
        ("vision_w3", "W4 A8", "W3 A8"),
        ("w2a8", "W2 A8", None),
        ("w4a4", "W4 A4", None),
        ("w4a8", "W4 A8", None),
        ("wide", "W4 A8", "W8 A8"),
    ],
)
def test_a_server_reports_the_layers_and_bits_of_its_recipe(
    checkpoint: Path, name: str, weights: str | None, vision: str | None
) -> None:
    report = serve(checkpoint, name).quantization_report()
    if weights is None:
        assert not report["enabled"]
        return
    expected = {"backbone.language_model": {weights: 14}, "action_head.layers": {weights: 8}}
    if vision:
        expected["backbone.vision"] = {vision: VISION}
    if name == "wide":
        expected["backbone.connector"] = {vision: 1}
        expected["adapter.layers"] = {vision: ADAPTER}
        expected["action_head.layers"][vision] = DIT_ATTENTION
    assert bits(report) == expected
    assert report["layers_quantized"] == sum(sum(counts.values()) for counts in expected.values())


def test_every_shipped_recipe_is_tried_here() -> None:
    parameters = test_a_server_reports_the_layers_and_bits_of_its_recipe.pytestmark[0].args[1]
    assert [row[0] for row in parameters] == list(find_recipes(RECIPES))


def test_static_scales_from_one_batch_are_fixed_by_one_request(checkpoint: Path) -> None:
    policy = serve(checkpoint, "static_one_batch")
    observation = synthetic_observation(policy.modality_config, policy.metadata, "open the drawer", 0)
    assert policy.quantization_report()["calibrating"]
    policy.get_action(observation, seeds=0)
    report = policy.quantization_report()
    assert not report["calibrating"]
    assert {layer["activation_scale"] for layer in report["layers"].values()} == {
        "static per input channel, folded"
    }
    patient = serve(checkpoint, "w4a8")
    patient.get_action(observation, seeds=0)
    assert patient.quantization_report()["calibrating"]


def test_of_the_full_size_model_the_whole_vision_tower_is_taken_and_nothing_else() -> None:
    model = GR00T_N1_5.on_meta(Gr00tConfig.full_size())
    aliases = module_aliases(model)

    def taken(config: DuQuantConfig) -> dict[str, LinearSpec]:
        plans = plan(model, config.scheme, config.layer_filter, aliases=aliases)
        return {layer.name: layer.spec for layer in plans if layer.spec is not None}

    documented, targets = taken(DEFAULTS), taken(DuQuantConfig.from_environ(environ("vision_w3")))
    assert documented.keys() < targets.keys()
    tower = {name for name in targets if name not in documented}
    # SigLIP: 27 layers of four projections and two of an MLP.
    assert tower == {
        f"backbone.vision.encoder.layers.{layer}.{linear}"
        for layer in range(27)
        for linear in (*(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2")
    }
    assert {targets[name].weight.bits for name in tower} == {3}
    assert {targets[name].weight.bits for name in documented} == {4}
