"""`--scope wide` beside the user's variables. Oracles: the layers counted by hand, messages by their text."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from gr00t.cli.errors import UsageError
from gr00t.cli.serving.scope import scoped
from gr00t.model.quantized_layers import DEFAULTS, SCOPES
from gr00t.quantization import DuQuantConfig, plan
from gr00t.quantization.settings.environment import PREFIX
from gr00t.quantization.settings.selection import check_plans


def variables(**settings: str) -> dict[str, str]:
    return {PREFIX + name: text for name, text in settings.items()}


def taken(full_size, **settings: str) -> dict[str, int]:
    """Bits of the layers that `--scope wide` takes beside these variables; refused as a server refuses."""
    model, aliases = full_size
    config = DuQuantConfig.from_environ(scoped(variables(**settings), "wide"), DEFAULTS)
    plans = plan(model, config.scheme, config.layer_filter, aliases=aliases)
    check_plans(plans, config.scheme, config.layer_filter, debug=False)
    return {layer.name: layer.spec.weight.bits for layer in plans if layer.spec is not None}


def parts(layers: dict[str, int]) -> Counter[str]:
    """How many layers by the first two parts of their names, less the documented ones."""
    return Counter(".".join(name.split(".")[:2]) for name in layers if not DEFAULTS.layer_filter(None, name))


def test_the_documents_scope_changes_nothing():
    environ = {"PATH": "p", **variables(INCLUDE="x", WBITS_DEFAULT="3")}
    assert scoped(environ, "document") == environ
    assert scoped({}, "document") == {}


def test_the_scope_is_its_variables_and_turns_quantization_on():
    assert scoped({"PATH": "p"}, "wide") == {"PATH": "p", **variables(**SCOPES["wide"])}
    assert DuQuantConfig.from_environ(scoped({}, "wide")) is not None


def test_what_is_set_besides_holds(full_size):
    found = taken(full_size, WBITS_DEFAULT="3", WBITS="adapter.*:4,action_head.layers.2.attn.q_proj:6")
    assert {bits for name, bits in found.items() if name.startswith("adapter.")} == {4}
    assert found["action_head.layers.2.attn.q_proj"] == 6
    assert Counter(found.values()) == {3: 116, 4: 24, 6: 1, 8: 162 + 1 + 63}


def test_a_rule_of_the_users_own_for_a_whole_part_takes_the_place_of_the_scopes(full_size):
    rule = SCOPES["wide"]["WBITS"].split(",")[0].replace(":8", ":5")
    assert scoped(variables(WBITS=rule), "wide")[PREFIX + "WBITS"].count("vision") == 1
    assert Counter(taken(full_size, WBITS=rule).values()) == {4: 116, 5: 162, 8: 89}


def test_layers_can_be_left_out_part_by_part(full_size):
    everything = {"backbone.vision": 162, "backbone.connector": 1, "adapter.layers": 24}
    everything["action_head.layers"] = 64
    assert parts(taken(full_size)) == everything
    without_vision = taken(full_size, EXCLUDE=r"\bvision\b")
    assert parts(without_vision) == {k: n for k, n in everything.items() if k != "backbone.vision"}
    assert len(without_vision) == 367 - 162
    assert parts(taken(full_size, SCOPE="adapter.")) == {"adapter.layers": 24}
    assert parts(taken(full_size, SCOPE="backbone.vision.encoder.layers.26.")) == {"backbone.vision": 6}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"INCLUDE": ".*mlp.*"},
            f"--scope wide says which layers are taken, and so does {PREFIX}INCLUDE: leave one of them out "
            f"(beside --scope, {PREFIX}EXCLUDE leaves layers out)",
        ),
        ({"LAYERS": "backbone.connector"}, f"and so does {PREFIX}LAYERS: leave one of them out"),
        ({"ENABLE": "0"}, f"--scope wide asks to quantize, {PREFIX}ENABLE=0 not to: leave one of them out"),
    ],
)
def test_what_contradicts_the_scope_is_refused(settings, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        scoped(variables(**settings), "wide")


def test_the_scopes_own_include_and_an_empty_one_are_no_contradiction():
    for include in (SCOPES["wide"]["INCLUDE"], ""):
        found = DuQuantConfig.from_environ(scoped(variables(INCLUDE=include, ENABLE="1"), "wide"))
        assert found.include.pattern == SCOPES["wide"]["INCLUDE"]


@pytest.mark.parametrize(
    ("scope", "hint"),
    [("wied", "did you mean wide?"), ("backbone.", "known: document, wide"), ("", "known: document, wide")],
)
def test_an_unknown_scope_is_told_with_the_nearest_and_the_variable_of_that_name(scope, hint):
    with pytest.raises(
        UsageError, match=re.escape(f"--scope {scope}: {hint} (a prefix of layers' names is {PREFIX}SCOPE)")
    ):
        scoped({}, scope)
