"""Allocations as recipes. Oracle: what the library makes of the recipe, layer by layer."""

from __future__ import annotations

import random
from fnmatch import fnmatchcase

import pytest

from gr00t.eval.allocation.recipe_text import recipe_text, rules
from gr00t.eval.arms.recipes import Recipe, load_recipe
from gr00t.quantization.settings.environment import DuQuantConfig, to_environ

KINDS = ("q_proj", "k_proj", "v_proj", "o_proj")
NAMES = [
    *(f"backbone.language_model.layers.{block}.self_attn.{kind}" for block in range(12) for kind in KINDS),
    *(f"backbone.language_model.layers.{block}.mlp.up_proj" for block in range(12)),
    *(f"action_head.layers.{block}.mlp.{kind}" for block in range(11) for kind in ("up_proj", "down_proj")),
    "backbone.connector",
    "head",
]
BASE = Recipe(
    "base",
    "text",
    denoising_steps=8,
    settings={
        "WBITS_DEFAULT": "7",
        "WBITS": "x:7",
        "PACKDIR": "somewhere",
        "LS": "0.5",
        "EXCLUDE": r"a\.\"b",
    },
)


def drawn(seed: int, spread: float) -> dict[str, int]:
    """Bits of all layers: those of their kind, but for a share of them."""
    dice = random.Random(seed)
    of_kind = {name.rpartition(".")[2]: dice.choice((2, 3, 4, 6, 8)) for name in NAMES}
    return {
        name: dice.choice((2, 3, 4, 5, 6, 8)) if dice.random() < spread else of_kind[name.rpartition(".")[2]]
        for name in NAMES
    }


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_the_recipe_gives_every_layer_its_bits(tmp_path, seed, spread):
    bits = drawn(seed, spread)
    path = tmp_path / "r.toml"
    path.write_text(recipe_text(BASE, "r", 'said "so"', ("first", "second"), bits))
    recipe = load_recipe(path)
    config = DuQuantConfig.from_environ(to_environ(recipe.settings))
    assert config is not None
    assert {name: config.scheme.spec_for(8, 8, name).weight.bits for name in NAMES} == bits
    assert (recipe.name, recipe.description, recipe.denoising_steps) == ("r", 'said "so"', 8)
    assert recipe.calibrate is True
    assert {name: recipe.settings[name] for name in ("LS", "EXCLUDE")} == {"LS": "0.5", "EXCLUDE": r"a\.\"b"}
    assert "PACKDIR" not in recipe.settings
    assert "\n" not in recipe.settings.get("WBITS", "")
    assert path.read_text().startswith("# first\n# second\nname")


def test_layers_of_one_kind_share_a_pattern():
    """By hand."""
    bits = {name: 6 if name.startswith("action_head") else 3 for name in NAMES}
    assert rules(bits) == (3, {"action_head.*.up_proj": 6, "action_head.*.down_proj": 6})
    bits["action_head.layers.3.mlp.up_proj"] = 3
    bits["backbone.connector"] = 8
    default, others = rules(bits)
    assert default == 3
    assert others["action_head.layers.3.mlp.up_proj"] == 3
    assert others["backbone.connector"] == 8
    assert len(others) == 4


def test_as_many_bits_everywhere_need_no_rules():
    assert rules(dict.fromkeys(NAMES, 4)) == (4, {})
    assert "WBITS =" not in recipe_text(BASE, "r", "", (), dict.fromkeys(NAMES, 4))


def test_every_rule_stands_for_a_layer():
    """A rule that stands for none is an error where the recipe is used."""
    for seed in range(20):
        _, others = rules(drawn(seed, 0.3))
        assert all(any(fnmatchcase(name, rule) for name in NAMES) for rule in others)
