"""quantize_ and plan, as README and docstrings show them. Oracle: the same asked for by variables."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.quantized_layers import DEFAULTS, EXCLUDE, INCLUDE
from gr00t.quantization import (
    DuQuantConfig,
    DuQuantConfigError,
    DuQuantLinear,
    DuQuantReport,
    DuQuantSelectionError,
    Execution,
    IntFormat,
    LayerFilter,
    LinearScheme,
    Rotation,
    Rounding,
    RowRotation,
    RuntimeOptions,
    WeightScale,
    enable_duquant_if_configured,
    plan,
    quantize_,
)
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.settings.environment import settings_in, to_environ
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.shell import REPO


def toy() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 8))
    for seed, parameter in enumerate(model.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) / 8
    return model.requires_grad_(False)


X = torch.randn(20, 64, generator=torch.Generator().manual_seed(9))


def bits_of(report: DuQuantReport) -> dict[str, dict[str, Tensor]]:
    return {name: layer.packed_state() for name, layer in report.layers.items()}


def assert_same_bits(one: DuQuantReport, other: DuQuantReport) -> None:
    ones, others = bits_of(one), bits_of(other)
    assert list(ones) == list(others)
    for name, state in ones.items():
        assert state.keys() == others[name].keys()
        assert all(torch.equal(value, others[name][key]) for key, value in state.items()), name
    assert one.layers_sha256 == other.layers_sha256


def test_the_five_lines_quantize_any_module() -> None:
    model = toy()
    scheme = LinearScheme(weight=IntFormat(4), activation=IntFormat(8), block=16, calibration_steps=0)
    plans = plan(model, scheme)
    report = quantize_(model, scheme)
    assert [type(layer) for layer in model] == [DuQuantLinear, nn.GELU, DuQuantLinear, nn.ReLU, DuQuantLinear]
    assert [(layer.name, str(layer.spec)) for layer in plans] == [
        (name, str(layer.spec)) for name, layer in report.layers.items()
    ]
    # Measured on an AMD EPYC: 18.8 dB from the float model, by three layers at W4A8.
    assert 17.5 < sqnr_db(toy()(X), model(X)) < 20


def test_each_layer_is_told_of_once() -> None:
    told: list[None] = []
    quantize_(toy(), LinearScheme(), on_layer=lambda: told.append(None))
    assert len(told) == 3


def test_it_is_the_same_as_by_variables() -> None:
    one, other = toy(), toy()
    variables = to_environ({"INCLUDE": ".*", "CALIB_STEPS": "0", "BLOCK": "32"})
    by_variables = enable_duquant_if_configured(one, variables)
    assert by_variables is not None
    by_python = quantize_(other, LinearScheme(block=32, calibration_steps=0))
    assert_same_bits(by_python, by_variables)
    assert torch.equal(one(X), other(X))


def test_a_plan_changes_nothing_and_reads_no_weight() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 32), nn.Bilinear(2, 2, 2))
    before = {name: id(module) for name, module in model.named_modules()}
    first, second = plan(model, filter_fn=lambda module, name: module.in_features == 64)
    assert {name: id(module) for name, module in model.named_modules()} == before
    assert (first.name, first.reason, str(first)) == ("0", "taken by filter_fn", "0: Linear(64->96)")
    assert first.spec is not None
    assert first.spec.bits == "W4 A8"
    assert (second.spec, second.reason) == (None, "left by filter_fn")


def test_a_plan_says_what_neighbours_and_statistics_decide() -> None:
    model = nn.Module()
    model.head_dim = 16
    model.v_proj, model.o_proj = nn.Linear(64, 32, bias=False), nn.Linear(32, 64)
    statistics = {"v_proj": InputStatistics(torch.ones(64), torch.ones(32, 64).bfloat16())}
    scheme = LinearScheme(row_rotation=RowRotation.PROPAGATE, calibration_steps=0)
    plans = {layer.name: layer for layer in plan(model, scheme, statistics=statistics)}
    assert {name: layer.absorbs for name, layer in plans.items()} == {"v_proj": None, "o_proj": "v_proj"}
    assert {name: layer.spec.informed for name, layer in plans.items()} == {"v_proj": True, "o_proj": False}
    assert plans["o_proj"].asked.row_rotation is RowRotation.PROPAGATE
    assert plans["o_proj"].spec.row_rotation is RowRotation.RESTORE
    report = quantize_(model, scheme, statistics=statistics)
    assert {name: layer.spec for name, layer in report.layers.items()} == {
        name: layer.spec for name, layer in plans.items()
    }


@pytest.mark.parametrize(
    ("filter_fn", "scheme", "message"),
    [
        (lambda module, name: False, LinearScheme(), "none of 3 Linear layers is selected"),
        (LayerFilter(layers=("1",)), LinearScheme(), "no Linear is named '1'"),
        (LayerFilter(), LinearScheme(weight_by_layer=(("7", IntFormat(8)),)), "'7' is no Linear"),
    ],
)
def test_what_names_no_layer_is_refused_and_nothing_is_replaced(filter_fn, scheme, message) -> None:
    model = toy()
    for call in (plan, quantize_):
        with pytest.raises(DuQuantSelectionError, match=message):
            call(model, scheme, filter_fn)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"block": 0}, "block_in=0: expected a whole number from 1 to 4096"),
        ({"smoothing": 2}, "smoothing=2: expected a number from 0 to 1"),
        ({"rotation": "svd"}, "rotation='svd': expected one of duquant, hadamard, svd, none"),
        ({"weight": 4}, "weight=4: expected a format of 2 to 8 bits, or none"),
    ],
)
def test_a_scheme_that_no_layer_can_have_cannot_be_made(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        LinearScheme(**values)


def test_running_is_in_no_number_and_in_no_hash(tmp_path: Path) -> None:
    """Oracle: the packs of a folder are for every way to run; and the report is another one."""
    scheme = LinearScheme(calibration_steps=0)
    first = quantize_(toy(), scheme, runtime=RuntimeOptions(pack_dir=tmp_path))
    others = RuntimeOptions(
        Execution.AUTO, None, tmp_path, precache_weights=False, debug=True, backend="torch"
    )
    second = quantize_(toy(), scheme, runtime=others)
    assert (first.packed, second.packed) == (0, 3)
    assert_same_bits(first, second)
    assert first.config.to_dict() != second.config.to_dict()


def test_integer_execution_of_a_side_in_floating_point_is_refused_before_anything_is_replaced() -> None:
    model = toy()
    with pytest.raises(ValueError, match=r"EXECUTION=integer needs weights and activations of 2 to 8 bits"):
        quantize_(model, LinearScheme(activation=None), runtime=RuntimeOptions(Execution.INTEGER))
    assert type(model[0]) is nn.Linear


# The adapter


# Every field of a scheme, none at its default.
SCHEME = LinearScheme(
    weight=IntFormat(3),
    activation=IntFormat(7),
    block=8,
    block_out=24,
    weight_scale=WeightScale.CHANNEL,
    permute=False,
    rotation=Rotation.SVD,
    row_rotation=RowRotation.NONE,
    smoothing=0.5,
    calibration_steps=7,
    act_percentile=99.0,
    rounding=Rounding.NEAREST,
    weight_by_layer=(("a.b", IntFormat(8)), ("c.*", None)),
    activation_by_layer=(("c.*", IntFormat(6)), ("a.b", None)),
)


def test_what_describes_a_scheme_reads_back_as_that_scheme() -> None:
    plain = LinearScheme()
    assert all(
        getattr(SCHEME, field.name) != getattr(plain, field.name) for field in dataclasses.fields(SCHEME)
    )
    runtime = RuntimeOptions(Execution.AUTO, None, Path("packs"), False, True, True, True, "avx2")
    config = DuQuantConfig.describing(SCHEME, LayerFilter("a", layers=("a.b", "c.d")), runtime)
    read = DuQuantConfig.from_environ(config.to_dict())
    assert read is not None
    assert (read.scheme, read.runtime) == (SCHEME, runtime)
    assert read.layer_filter == LayerFilter("a", layers=("a.b", "c.d"))


@pytest.mark.parametrize("filter_fn", [LayerFilter(), lambda module, name: name != "2"])
def test_what_a_report_says_of_its_settings_asks_for_the_same(filter_fn) -> None:
    report = quantize_(toy(), LinearScheme(calibration_steps=0), filter_fn)
    again = enable_duquant_if_configured(toy(), report.config.to_dict())
    assert again is not None
    assert_same_bits(report, again)


def test_without_a_word_on_which_layers_nothing_is_quantized() -> None:
    """Of a model that nobody has told anything of, not every Linear may be quantized unasked."""
    model = toy()
    with pytest.raises(
        DuQuantConfigError, match="nothing says which layers to quantize: set GR00T_DUQUANT_INC"
    ):
        enable_duquant_if_configured(model, to_environ({"WBITS_DEFAULT": "4"}))
    assert type(model[0]) is nn.Linear


def test_settings_are_handed_on_in_place_of_the_environments_own() -> None:
    caller = {"PATH": "p", **to_environ({"ABITS": "16", "DEBUG": "1"})}
    environ = to_environ({"LS": "0.5"}, caller)
    assert settings_in(environ) == {"LS": "0.5"}
    assert environ["PATH"] == "p"
    assert len(environ) == 2


def test_reading_settings_imports_no_torch() -> None:
    code = (
        "import sys, gr00t.quantization, gr00t.model.quantized_layers as q; "
        "assert len(q.DEFAULTS.variables()) == 28; q.DEFAULTS.scheme; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert done.stdout == "False\n"


# On a GR00T


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("random"))


@pytest.mark.parametrize(
    ("variables", "scheme"),
    [
        ({"WBITS_DEFAULT": "4"}, LinearScheme()),
        (
            {
                **{"ROTATION": "duquant", "ROW_ROT": "propagate", "CALIB_STEPS": "0", "WBITS": "*.mlp.*:6"},
                "ABITS_LAYERS": "*.o_proj:6",
            },
            LinearScheme(
                rotation=Rotation.DUQUANT,
                row_rotation=RowRotation.PROPAGATE,
                calibration_steps=0,
                weight_by_layer=(("*.mlp.*", IntFormat(6)),),
                activation_by_layer={"*.o_proj": IntFormat(6)},
            ),
        ),
    ],
)
def test_a_gr00t_is_the_same_by_variables_and_in_python(checkpoint: Path, variables, scheme, caplog) -> None:
    caplog.set_level(logging.INFO)
    one, other = (GR00T_N1_5.from_pretrained(checkpoint, torch.bfloat16) for _ in range(2))
    aliases = module_aliases(one)
    by_variables = enable_duquant_if_configured(one, to_environ(variables), aliases, DEFAULTS)
    assert by_variables is not None
    replaced = [line for line in caplog.messages if "[REPLACED]" in line]
    caplog.clear()
    by_python = quantize_(other, scheme, DEFAULTS.layer_filter, aliases=aliases)
    assert len(by_python.layers) == 2 * 7 + 4 * 2
    assert_same_bits(by_python, by_variables)
    assert [line for line in caplog.messages if "[REPLACED]" in line] == replaced
    assert by_python.config.to_dict() == by_variables.config.to_dict()


def test_what_was_quantized_in_python_is_exported_like_any_other(checkpoint: Path, tmp_path: Path) -> None:
    model = GR00T_N1_5.from_pretrained(checkpoint, torch.bfloat16)
    report = quantize_(
        model, LinearScheme(calibration_steps=0), lambda module, name: name.endswith(".mlp.up_proj")
    )
    export_artefact(model, report, checkpoint, tmp_path / "exported")
    _, loaded = open_checkpoint(tmp_path / "exported").load_model(torch.bfloat16, {})
    assert loaded is not None
    assert len(loaded.layers) == 2 * 2 + 4
    assert bits_of(loaded).keys() == bits_of(report).keys()
    for name, state in bits_of(report).items():
        assert all(torch.equal(value, bits_of(loaded)[name][key]) for key, value in state.items())


def test_gr00ts_own_expressions_are_the_documents() -> None:
    """Oracle: the customer's document, as tests/quantization/settings/test_selection.py copies it."""
    from tests.quantization.settings.test_selection import DOCUMENT_EXCLUDE, DOCUMENT_INCLUDE

    assert (INCLUDE, EXCLUDE) == (DOCUMENT_INCLUDE, DOCUMENT_EXCLUDE)
