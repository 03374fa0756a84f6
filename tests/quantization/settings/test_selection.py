"""Layer selection on the full-size model: the documents' regexes, both kinds of name, and what is refused."""

from __future__ import annotations

import re

import pytest
from torch import nn

from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import DuQuantConfig, DuQuantSelectionError, LayerPlan
from gr00t.quantization.settings.selection import check_plans, plan_layers

DOCUMENT_INCLUDE = (
    r".*(backbone\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|action_head\..*\.mlp\.(gate_proj|up_proj|down_proj)).*"
)
DOCUMENT_EXCLUDE = (
    r"(?:^|\.)(vision|radio|norm|ln|layernorm|embed|lm_head)(?:\.|$)|action_head\..*\.self_attn\."
)
RECIPE_INCLUDE = (
    r".*(backbone\.eagle_model\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|action_head\.model\.transformer_blocks\.\d+\.ff\.net\.(0\.proj|2)).*"
)
RECIPE_EXCLUDE = r"(?:^|\.)(vision|radio|norm|ln|layernorm|embed|lm_head|attn1)(?:\.|$)"

# The intended layers, written out independently of any regex.
INTENDED = [
    f"backbone.language_model.layers.{layer}.{linear}"
    for layer in range(12)
    for linear in (
        *(f"self_attn.{name}_proj" for name in "qkvo"),
        *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    )
] + [f"action_head.layers.{layer}.mlp.{name}_proj" for layer in range(16) for name in ("up", "down")]


def config(**variables: str) -> DuQuantConfig:
    environ = {f"GR00T_DUQUANT_{name}": text for name, text in variables.items()}
    found = DuQuantConfig.from_environ(environ, DEFAULTS)
    assert found is not None
    return found


def judged(model: nn.Module, config: DuQuantConfig, aliases: dict[str, str] | None = None) -> list[LayerPlan]:
    return plan_layers(model, config.scheme, config.layer_filter, aliases)


def selected(
    model: nn.Module, config: DuQuantConfig, aliases: dict[str, str] | None = None
) -> list[LayerPlan]:
    plans = judged(model, config, aliases)
    check_plans(plans, config.scheme, config.layer_filter, debug=config.debug)
    return [plan for plan in plans if plan.spec is not None]


@pytest.mark.parametrize(
    "variables",
    [
        {"WBITS_DEFAULT": "4"},
        {"INCLUDE": DOCUMENT_INCLUDE, "EXCLUDE": DOCUMENT_EXCLUDE, "SCOPE": ""},
        {"INCLUDE": RECIPE_INCLUDE, "EXCLUDE": RECIPE_EXCLUDE},
        {"LAYERS": ",".join(INTENDED), "INCLUDE": "nothing"},
    ],
    ids=["defaults", "document", "recipe", "layers"],
)
def test_exactly_the_84_llm_and_32_dit_mlp_layers(full_size, variables):
    model, aliases = full_size
    names = [target.name for target in selected(model, config(**variables), aliases)]
    assert sorted(names) == sorted(INTENDED)
    assert len(names) == len(set(names)) == 116


def test_without_aliases_the_defaults_still_select_them(full_size):
    assert len(selected(full_size[0], config(WBITS_DEFAULT="4"))) == 116


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        ("backbone.", 84),
        ("action_head.", 32),
        ("backbone.language_model.layers.3.", 7),
        ("backbone.eagle_model.language_model.model.layers.3.", 7),
        ("action_head.model.transformer_blocks.5.", 2),
    ],
)
def test_scope_is_a_prefix_of_either_name(full_size, scope, count):
    model, aliases = full_size
    assert len(selected(model, config(SCOPE=scope), aliases)) == count


def test_layers_and_wbits_take_either_name(full_size):
    model, aliases = full_size
    targets = selected(
        model,
        config(
            LAYERS="backbone.language_model.layers.0.self_attn.q_proj,"
            "action_head.model.transformer_blocks.0.ff.net.2",
            WBITS="backbone.eagle_model.language_model.model.layers.0.self_attn.q_proj:8,"
            "action_head.layers.0.mlp.down_proj:6",
        ),
        aliases,
    )
    assert {target.name: target.spec.weight.bits for target in targets} == {
        "backbone.language_model.layers.0.self_attn.q_proj": 8,
        "action_head.layers.0.mlp.down_proj": 6,
    }


def test_a_star_in_wbits_stands_for_any_part_of_either_name(full_size):
    model, aliases = full_size
    targets = selected(
        model,
        config(
            WBITS="backbone.*.mlp.*:6,action_head.model.transformer_blocks.*.ff.*:5,backbone.*:8,"
            "action_head.layers.3.mlp.up_proj:2",
        ),
        aliases,
    )
    found = {target.name: target.spec.weight.bits for target in targets}
    # What is written out counts, wherever it stands; of two patterns the first.
    assert found["action_head.layers.3.mlp.up_proj"] == 2
    expected = {2: 1, 5: 31, 6: 12 * 3, 8: 12 * 4}
    assert {bits: list(found.values()).count(bits) for bits in expected} == expected
    assert {name for name, bits in found.items() if bits == 6} == {
        n for n in INTENDED if "language_model" in n and ".mlp." in n
    }


def test_activation_bits_of_single_layers_take_either_name(full_size):
    model, aliases = full_size
    layers = "action_head.model.transformer_blocks.*.ff.*:6,*.layers.1.mlp.down_proj:8,*.o_proj:16"
    targets = selected(model, config(ABITS="4", ABITS_LAYERS=layers), aliases)
    found = [target.spec.bits for target in targets]
    assert {bits: found.count(bits) for bits in found} == {"W4 A4": 71, "W4 A6": 32, "W4 A8": 1, "W4 A16": 12}


def test_every_linear_gets_a_reason(full_size):
    model, aliases = full_size
    reasons = {v.name: v.reason for v in judged(model, config(WBITS_DEFAULT="4"), aliases)}
    assert len(reasons) == sum(type(module) is nn.Linear for module in model.modules())
    assert reasons["backbone.language_model.layers.0.mlp.up_proj"] == "INCLUDE matches"
    assert reasons["backbone.connector"] == "INCLUDE does not match"
    assert reasons["backbone.vision.encoder.layers.0.self_attn.q_proj"] == "EXCLUDE matches '.vision.'"
    recipe = config(INCLUDE=".*proj.*", EXCLUDE="attn1")
    reasons = {v.name: v.reason for v in judged(model, recipe, aliases)}
    assert reasons["action_head.layers.0.attn.q_proj"] == "EXCLUDE matches 'attn1' in the checkpoint's name"


def refusal(full_size, **variables: str) -> str:
    with pytest.raises(DuQuantSelectionError) as refused:
        selected(full_size[0], config(**variables), full_size[1])
    return str(refused.value)


def test_an_empty_selection_names_the_nearest_layers(full_size):
    message = refusal(full_size, INCLUDE="qqq_proj")
    assert message.startswith(
        "DuQuant cannot use these settings on this model\n  none of 387 Linear layers is selected"
    )
    assert "INCLUDE does not match: backbone.vision.encoder.layers.0.self_attn.k_proj, " in message
    assert re.search(r"\.\.\. 384 more \(GR00T_DUQUANT_DEBUG=1 lists all\)", message)
    excluded = refusal(full_size, EXCLUDE="proj")
    assert excluded.index("EXCLUDE matches") < excluded.index("INCLUDE does not match")


def test_with_debug_an_empty_selection_lists_every_linear(full_size):
    message = refusal(full_size, INCLUDE="qqq_proj", DEBUG="1")
    assert all(name in message for name in INTENDED)


def test_unknown_names_are_refused_with_the_nearest(full_size):
    assert refusal(full_size, LAYERS="action_head.layers.0.mlp.upproj").endswith(
        "GR00T_DUQUANT_LAYERS: no Linear is named 'action_head.layers.0.mlp.upproj'; "
        "did you mean action_head.layers.0.mlp.up_proj?"
    )
    assert refusal(full_size, WBITS="action_head.layers.0.mlp.gate_proj:6").endswith(
        "GR00T_DUQUANT_WBITS: 'action_head.layers.0.mlp.gate_proj' is no Linear; "
        "did you mean action_head.layers.0.mlp.up_proj?"
    )
    assert "WBITS: 'backbone.visoin.*' is no Linear" in refusal(full_size, WBITS="backbone.visoin.*:3")
    assert "WBITS: 'backbone.vision.*' is not selected" in refusal(full_size, WBITS="backbone.vision.*:3")
    message = refusal(full_size, WBITS="backbone.connector:6", ABITS_LAYERS="*.attn.*:6,*.mpl.*:16")
    assert "\n  GR00T_DUQUANT_ABITS_LAYERS: '*.attn.*' is not selected; known: action_head." in message
    assert "\n  GR00T_DUQUANT_ABITS_LAYERS: '*.mpl.*' is no Linear; " in message
    assert "\n  GR00T_DUQUANT_WBITS: 'backbone.connector' is not selected; known: action_head." in message


def test_subclasses_of_linear_are_left_alone():
    attention = nn.MultiheadAttention(8, 2)
    (left,) = judged(attention, config(INCLUDE=".*"))
    assert left.spec is None
    assert left.reason == "a NonDynamicallyQuantizableLinear, not nn.Linear itself: its owner may read it"
