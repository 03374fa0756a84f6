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
Counts = dict[str, int]
# By the first two parts of their names.
LANGUAGE, DIT, VISION = "backbone.language_model", "action_head.layers", "backbone.vision"


def documented(weights: str, dit: str = "") -> dict[str, Counts]:
    """The layers that the document takes, at these bits."""
    return {LANGUAGE: {weights: 2 * 7}, DIT: {dit or weights: 4 * 2}}


def with_vision(weights: str, vision: str) -> dict[str, Counts]:
    return {**documented(weights), VISION: {vision: 2 * 6}}


# Recipe -> bits and how often, by part; None: not quantized.
EXPECTED: dict[str, dict[str, Counts] | None] = {
    "bf16": None,
    "bf16-again": None,
    "grey": None,
    "dit8": documented("W4 A8", "W8 A8"),
    "mixed": documented("W3 A8", "W6 A8"),
    "recommended": documented("W4 A8"),
    "rtn": documented("W4 A8"),
    "static_one_batch": documented("W4 A8"),
    "vision_w2": with_vision("W4 A8", "W2 A8"),
    "vision_w3": with_vision("W4 A8", "W3 A8"),
    "w2a8": documented("W2 A8"),
    "w3a8": documented("W3 A8"),
    # o_proj and down_proj, two of the language model's seven and one of an MLP's two.
    "w4a4": {LANGUAGE: {"W4 A4": 2 * 5, "W4 A8": 2 * 2}, DIT: {"W4 A4": 4, "W4 A8": 4}},
    "w4a8": documented("W4 A8"),
    "wide": {
        **with_vision("W4 A8", "W8 A8"),
        DIT: {"W4 A8": 4 * 2, "W8 A8": 4 * 4},
        "backbone.connector": {"W8 A8": 1},
        "adapter.layers": {"W8 A8": 2 * 6},
    },
    "gate/abits6": documented("W4 A6"),
    "gate/lm2_dit6": documented("W2 A8", "W6 A8"),
    "gate/vision_w4": with_vision("W4 A8", "W4 A8"),
    "gate/w2a8_feedback": documented("W2 A8"),
    "gate/w3a8_nearest": documented("W3 A8"),
}


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


@pytest.mark.parametrize("name", EXPECTED)
def test_a_server_reports_the_layers_and_bits_of_its_recipe(checkpoint: Path, name: str) -> None:
    report, expected = serve(checkpoint, name).quantization_report(), EXPECTED[name]
    if expected is None:
        assert not report["enabled"]
        return
    assert bits(report) == expected
    assert report["layers_quantized"] == sum(sum(counts.values()) for counts in expected.values())


def test_every_shipped_recipe_is_tried_here() -> None:
    shipped = [path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml")]
    assert set(EXPECTED) == set(shipped)


def test_recipes_of_a_folder_of_recipes_have_the_names_of_their_files() -> None:
    for name, path in find_recipes(RECIPES / "gate").items():
        recipe = load_recipe(path)
        assert (recipe.name, recipe.calibrate) == (name, True)
        assert recipe.description


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


@pytest.mark.parametrize(("name", "language", "dit"), [("mixed", 3, 6), ("dit8", 4, 8), ("w3a8", 3, 3)])
def test_of_the_full_size_model_116_layers_have_the_bits_of_their_part(
    name: str, language: int, dit: int
) -> None:
    model = GR00T_N1_5.on_meta(Gr00tConfig.full_size())
    config = DuQuantConfig.from_environ(environ(name), DEFAULTS)
    plans = plan(model, config.scheme, config.layer_filter, aliases=module_aliases(model))
    found = Counter((layer.name[:8], layer.spec.bits) for layer in plans if layer.spec is not None)
    assert found == {("backbone", f"W{language} A8"): 12 * 7, ("action_h", f"W{dit} A8"): 16 * 2}


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
