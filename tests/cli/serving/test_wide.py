"""Which layers the scope `wide` takes, and what is said of them. Oracle: names written out by hand."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoints import scan_layers
from gr00t.model.quantized_layers import BEYOND, DEFAULTS, EXCLUDE, INCLUDE, SCOPES, log_scope
from gr00t.quantization import DuQuantConfig, DuQuantConfigError, plan
from gr00t.quantization.checkpoint.manifest import read_manifest
from gr00t.quantization.settings.environment import to_environ
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import act, quantized, serve, variables

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
VISION = [
    f"backbone.vision.encoder.layers.{layer}.{linear}"
    for layer, linear in product(
        range(27), (*(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2")
    )
]
_MLP = ("mlp.up_proj", "mlp.down_proj")
ADAPTER = [
    f"adapter.layers.{layer}.{linear}"
    for layer, linear in product(range(4), (*(f"attn.{x}" for x in _PROJECTIONS), *_MLP))
]
ATTENTION = [f"action_head.layers.{layer}.attn.{x}" for layer, x in product(range(16), _PROJECTIONS)]
# Of the small model: 2 blocks in vision and adapter, 4 in the diffusion transformer.
SMALL = 22, 2 * 6 + 1 + 2 * 6 + 4 * 4
DYNAMIC = variables(**SCOPES["wide"], CALIB_STEPS="0")


def bits(full_size, config: DuQuantConfig) -> dict[str, int]:
    model, aliases = full_size
    plans = plan(model, config.scheme, config.layer_filter, aliases=aliases)
    return {layer.name: layer.spec.weight.bits for layer in plans if layer.spec is not None}


def test_wide_takes_four_parts_at_8_bits_and_the_documented_layers_as_before(full_size):
    documented = bits(full_size, DEFAULTS)
    assert len(documented) == 116
    wide = DuQuantConfig.from_environ(to_environ(SCOPES["wide"]), DEFAULTS)
    assert bits(full_size, wide) == {
        **documented,
        **dict.fromkeys([*VISION, "backbone.connector", *ADAPTER, *ATTENTION], 8),
    }
    assert set(documented.values()) == {4}
    assert wide.act_bits == 8


def test_nothing_of_the_scope_is_in_the_default(full_size):
    assert SCOPES["document"] == {}
    assert (DEFAULTS.include.pattern, DEFAULTS.exclude.pattern) == (INCLUDE, EXCLUDE)
    assert DEFAULTS.weight_bits_by_layer == ()
    taken = bits(full_size, DEFAULTS)
    assert not [name for name in taken if any(part.met_by(DEFAULTS.layer_filter) for part in BEYOND.values())]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_a_dry_run_lists_every_layer_with_its_bits_and_counts_those_beyond(checkpoint, caplog):
    caplog.set_level(logging.INFO)
    scan_layers(checkpoint, {**DYNAMIC, **variables(DRYRUN="1")})
    listed = [line for line in caplog.messages if "[DRYRUN]" in line]
    assert (sum(" W4 A8 " in line for line in listed), sum(" W8 A8 " in line for line in listed)) == SMALL
    assert caplog.messages[-2:] == [
        f"[GR00T-DUQUANT] Dry-run total layers listed: {sum(SMALL)}",
        "[GR00T-DUQUANT] Scope wide: 41 layers beyond the document's 22 (vision 12, connector 1, adapter 12, "
        "DiT attention 16)",
    ]


def test_other_layers_beyond_the_document_are_not_called_the_scope(caplog):
    caplog.set_level(logging.INFO)
    documented = {"action_head.layers.0.mlp.up_proj": "W4 A8"}
    beyond = {"adapter.layers.0.attn.q_proj": "W8 A8", "action_head.out_proj": "W8 A8"}
    log_scope(documented, DEFAULTS)
    assert caplog.messages == []
    log_scope({**beyond, **documented}, DEFAULTS)
    assert caplog.messages == [
        "[GR00T-DUQUANT] Layers of your own choice: 2 layers beyond the document's 1 (vision 0, connector 0, "
        "adapter 1, DiT attention 0, other 1)"
    ]


def test_other_bits_than_the_scopes_are_said_and_what_is_not_quantized_is_not_counted(caplog):
    caplog.set_level(logging.INFO)
    wide = DuQuantConfig.from_environ(to_environ(SCOPES["wide"]), DEFAULTS)
    left = dict.fromkeys(VISION, "W16 A16")
    log_scope(left, wide)
    assert caplog.messages == []
    log_scope({**left, "backbone.connector": "W4 A8", ADAPTER[0]: "W8 A8"}, wide)
    assert caplog.messages == [
        "[GR00T-DUQUANT] Scope wide: 2 layers beyond the document's 0 (vision 0, connector 1, adapter 1, "
        "DiT attention 0; at W4 A8, W8 A8)"
    ]


def test_what_is_exported_wide_acts_as_what_is_quantized_so_and_is_nothing_else(checkpoint, tmp_path, caplog):
    """Oracle: the policy that is quantized as it is loaded, bit for bit."""
    model, report = quantized(checkpoint, DYNAMIC)
    export_artefact(model, report, checkpoint, tmp_path / "out")
    assert len(read_manifest(tmp_path / "out").layers) == sum(SMALL)
    caplog.set_level(logging.INFO)
    expected, policy = serve(checkpoint, DYNAMIC), serve(tmp_path / "out", variables(**SCOPES["wide"]))
    told = [line for line in caplog.messages if "Scope wide: 41 layers beyond the document's 22" in line]
    assert len(told) == 2
    for seed in (1, 2):
        np.testing.assert_array_equal(act(policy, seed), act(expected, seed))
    documented = serve(checkpoint, variables(CALIB_STEPS="0"))
    assert np.abs(act(documented) - act(expected)).max() > 0
    with pytest.raises(DuQuantConfigError, match=r"(?s)_WBITS='\*:4': exported with 'back.*_INCLUDE='"):
        serve(tmp_path / "out", variables(INCLUDE=INCLUDE, WBITS="*:4"))
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0"))
    export_artefact(model, report, checkpoint, tmp_path / "documented")
    with pytest.raises(
        DuQuantConfigError, match=r"(?s)_WBITS='.*: exported with ''\n.*_INCLUDE='.*_EXCLUDE='"
    ):
        serve(tmp_path / "documented", variables(**SCOPES["wide"]))


def test_packs_of_the_document_serve_the_scope_and_those_of_other_bits_do_not(checkpoint, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    packs = variables(PACKDIR=str(tmp_path), CALIB_STEPS="0")
    quantized(checkpoint, packs)
    quantized(checkpoint, {**packs, **DYNAMIC})
    assert [line.partition(": ")[2] for line in caplog.messages if "PACKDIR" in line] == [
        "0 of 22 layers restored",
        "22 of 63 layers restored",
    ]
    caplog.clear()
    other = SCOPES["wide"]["WBITS"].replace("vision.encoder.layers.*.*:8", "vision.encoder.layers.*.*:4")
    quantized(checkpoint, {**packs, **DYNAMIC, **variables(WBITS=other)})
    rebuilt = [line for line in caplog.messages if line.endswith("bits 8, not 4); rebuilt")]
    assert len(rebuilt) == 12
    assert all("backbone.vision." in line for line in rebuilt)
