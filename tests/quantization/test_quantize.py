"""enable_duquant_if_configured: the log lines of the document, all layers or none, nothing when off."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from torch import nn

from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import (
    DuQuantConfig,
    DuQuantConfigError,
    DuQuantDryRunError,
    DuQuantLinear,
    DuQuantSelectionError,
    enable_duquant_if_configured,
    list_layers,
)
from tests.quantization.kernels.kernel_layers import on

NAMES = ["backbone.layers.0.q_proj", "action_head.layers.0.mlp.up_proj"]

LISTED = [
    "[GR00T-DUQUANT] SCOPE filter: ''",
    "[GR00T-DUQUANT] Matched Linear layers: 2",
    "[GR00T-DUQUANT][DRYRUN] backbone.layers.0.q_proj: Linear(64->48) W4 A8 perm=True "
    "block_in=16 block_out=16 row_rot=restore",
    "[GR00T-DUQUANT][DRYRUN] action_head.layers.0.mlp.up_proj: Linear(48->32) W4 A8 perm=True "
    "block_in=16 block_out=16 row_rot=restore",
    "[GR00T-DUQUANT] Dry-run total layers listed: 2",
]


class Small(nn.Module):
    """Two layers that the defaults select, one that they do not."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(
            {"layers": nn.ModuleList([nn.ModuleDict({"q_proj": nn.Linear(64, 48)})])}
        )
        mlp = nn.ModuleDict({"up_proj": nn.Linear(48, 32, bias=False)})
        self.action_head = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"mlp": mlp})])})
        self.lm_head = nn.Linear(32, 8)
        for seed, parameter in enumerate(self.parameters()):
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) / 8
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.backbone["layers"][0]["q_proj"](x)
        return self.lm_head(self.action_head["layers"][0]["mlp"]["up_proj"](x))


def environ(**variables: str) -> dict[str, str]:
    return {f"GR00T_DUQUANT_{name}": text for name, text in variables.items()}


def enable(model: nn.Module, **variables: str):
    return enable_duquant_if_configured(model, environ(**variables), defaults=DEFAULTS)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def linears(model: nn.Module) -> int:
    return sum(type(module) is nn.Linear for module in model.modules())


def test_the_log_lines_are_the_documents_verbatim(log):
    enable(Small(), WBITS_DEFAULT="4", WBITS="action_head.layers.0.mlp.up_proj:6", CALIB_STEPS="0", LS="0")
    assert log.messages[:5] == [
        "[GR00T-DUQUANT] SCOPE filter: ''",
        "[GR00T-DUQUANT] Matched Linear layers: 2",
        "[GR00T-DUQUANT][REPLACED] backbone.layers.0.q_proj: Linear(64->48) -> DuQuantLinear W4 A8 perm=True "
        "block_in=16 block_out=16 row_rot=restore",
        "[GR00T-DUQUANT][REPLACED] action_head.layers.0.mlp.up_proj: Linear(48->32) -> DuQuantLinear W6 A8 "
        "perm=True block_in=16 block_out=16 row_rot=restore",
        "[GR00T-DUQUANT] Total layers replaced: 2",
    ]


def test_activation_bits_of_a_single_layer_are_what_all_would_have(log):
    """Oracle: models whose layers all have the one number of bits, or all the other."""
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    settings = {"CALIB_STEPS": "0", "LS": "0"}
    mixed, low, high = Small(), Small(), Small()
    report = enable(mixed, ABITS="4", ABITS_LAYERS="action_head.*:8", **settings)
    enable(low, ABITS="4", **settings)
    enable(high, ABITS="8", **settings)
    h = low.get_submodule(NAMES[0])(x)
    assert torch.equal(mixed(x), high.lm_head(high.get_submodule(NAMES[1])(h)))
    assert not torch.equal(mixed(x), low(x))
    told = report.to_dict()
    assert [layer["bits"] for layer in told["layers"].values()] == ["W4 A4", "W4 A8"]
    assert told["config"]["GR00T_DUQUANT_ABITS_LAYERS"] == "action_head.*:8"
    assert "up_proj: Linear(48->32) -> DuQuantLinear W4 A8 perm=True" in log.text


def test_static_scales_are_fixed_of_layers_with_quantized_inputs_alone():
    """Oracle: by a percentile of 100, the largest input of a channel is the largest code of its own bits."""
    model = Small()
    report = enable(
        model, ABITS_LAYERS=f"{NAMES[0]}:16,{NAMES[1]}:4", CALIB_STEPS="1", ACT_PCT="100", LS="0", PERMUTE="0"
    )
    assert [layer.is_calibrating for layer in report.layers.values()] == [False, True]
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    first, second = report.layers.values()
    model(x)
    h = second.rotate_input(first(x))
    assert torch.allclose(second.act_scale, h.abs().amax(dim=0) / 7, rtol=1e-5)
    assert second.is_calibrating is False


def test_a_dry_run_is_a_value_and_the_documents_lines(log):
    model = Small()
    config = DuQuantConfig.from_environ(environ(DRYRUN="1", LS="0"), DEFAULTS)
    plans = list_layers(model, config)
    assert [(plan.name, str(plan.spec.bits)) for plan in plans] == [(name, "W4 A8") for name in NAMES]
    assert log.messages == LISTED
    assert linears(model) == 3


def test_where_a_quantized_model_is_wanted_a_dry_run_lists_and_then_is_an_error(log):
    """Whoever builds a policy in a dry-run must not go on with one in floating point."""
    model = Small()
    with pytest.raises(DuQuantDryRunError, match="asks for a list of layers, which is in the log; unset it"):
        enable(model, DRYRUN="1", LS="0")
    assert log.messages == LISTED
    assert linears(model) == 3


def test_off_leaves_the_model_object_untouched(log):
    model = Small()
    before = {name: id(module) for name, module in model.named_modules()}
    assert enable(model) is None
    assert {name: id(module) for name, module in model.named_modules()} == before
    assert not model._forward_hooks
    assert log.messages == [
        "[GR00T-DUQUANT] DuQuant not enabled: no GR00T_DUQUANT_* variable is set; "
        "set GR00T_DUQUANT_WBITS_DEFAULT=4"
    ]


def test_bytes_are_measured(log):
    model = Small()
    report = enable(model, CALIB_STEPS="0", PRECACHE_WEIGHTS="0", PERMUTE="0", ROTATION="none")
    weights = 64 * 48 + 48 * 32
    assert report.linear_bytes_before == 4 * (weights + 48)
    # 4 bits a weight; 4 and 3 blocks a row, two to a byte; 4 bytes a row; and the bias.
    expected = weights // 2 + 48 * 2 + 32 * 2 + 4 * (48 + 32) + 4 * 48
    assert report.linear_bytes == expected
    assert report.model_bytes_before - report.model_bytes == report.linear_bytes_before - expected
    assert (
        f"[GR00T-DUQUANT] Bytes of the 2 layers: 18,624 before, {expected:,} now (0.16x); of the whole "
        f"model: 19,680 before, {report.model_bytes:,} now"
    ) in log.messages


def test_the_report_is_plain_data_and_tells_what_was_done():
    report = enable(Small(), WBITS_DEFAULT="4").to_dict()
    assert json.loads(json.dumps(report)) == report
    assert (report["enabled"], report["layers_replaced"], report["calibrating"]) == (True, 2, True)
    assert report["layers_quantized"] == 2
    assert list(report["layers"]) == NAMES
    assert report["layers"][NAMES[0]]["bits"] == "W4 A8"
    assert report["layers"][NAMES[0]]["activation_scale"] == "dynamic per token until calibrated"
    assert report["config"]["GR00T_DUQUANT_BLOCK"] == "16"


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"WBITS_DEFAULT": "5x"}, DuQuantConfigError),
        ({"INCLUDE": "nothing_like_it"}, DuQuantSelectionError),
        ({"EXECUTION": "integer", "ABITS": "16"}, ValueError),
    ],
)
def test_a_failure_leaves_the_model_as_it_was(variables, error):
    model = Small()
    with pytest.raises(error):
        enable(model, **variables)
    assert linears(model) == 3


def test_a_layer_that_cannot_be_quantized_is_named_and_none_is_replaced():
    model = Small()
    model.action_head["layers"][0]["mlp"]["up_proj"].weight[0, 0] = float("inf")
    with pytest.raises(
        ValueError, match=r"action_head\.layers\.0\.mlp\.up_proj cannot be quantized: the weight holds"
    ):
        enable(model, WBITS_DEFAULT="4")
    assert linears(model) == 3


def test_a_layer_with_two_names_is_replaced_under_both():
    model = Small()
    model.twin = model.backbone["layers"][0]["q_proj"]
    enable(model, CALIB_STEPS="0")
    assert isinstance(model.twin, DuQuantLinear)
    assert model.twin is model.backbone["layers"][0]["q_proj"]


def test_settings_without_effect_are_said_once(log):
    enable(Small(), INCLUDE_ACTION_HEAD="1", ROW_ROT="propagate", CALIB_STEPS="0")
    assert [line for line in log.messages if "effect" in line or "propagate:" in line] == [
        "[GR00T-DUQUANT] INCLUDE_ACTION_HEAD has no effect: INCLUDE decides which layers are taken",
        "[GR00T-DUQUANT] ROW_ROT=propagate: the outputs of 2 layers are restored",
        "[GR00T-DUQUANT] LS=0.15 has no effect on 2 layers: no statistics of their inputs were recorded",
    ]


def test_debug_gives_every_linear_with_its_reason(log):
    enable(Small(), WBITS_DEFAULT="4", DEBUG="1", CALIB_STEPS="0")
    assert "[GR00T-DUQUANT][DEBUG] lm_head: Linear(32->8): INCLUDE does not match" in log.messages


@pytest.mark.parametrize("case", ["torch", "mixed", "compiled"])
def test_profile_times_every_stage_and_changes_no_number(case, native_kernels):
    """Stages that a compiled kernel does in one are one row, and say which they are."""
    from gr00t.quantization.profile import StageProfiler

    if case != "torch" and not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    model, x = Small(), torch.ones(3, 64)
    report = enable(model, CALIB_STEPS="0")
    for layer in report.layers.values():
        around = "torch" if case == "torch" else native_kernels[0]
        on(layer, around, native_kernels[0] if case == "compiled" else "float32")
    stages = {
        "torch": ("permute+rotate", "quantize", "gemm", "restore"),
        "mixed": ("permute+rotate+quantize", "gemm", "scale+restore+bias"),
        "compiled": ("whole layer",),
    }[case]
    expected = model(x)
    profiler = StageProfiler(report.layers, synchronize=False)
    assert torch.equal(model(x), expected)
    rows = [
        (line[:12].strip(), line[12:37].strip(), line.split()[-6]) for line in profiler.table().splitlines()
    ]
    assert set(rows[1:]) == {(kind, stage, "1") for kind in ("q_proj", "up_proj") for stage in stages}


def test_each_backend_may_be_asked_for_by_its_variable(native_kernels, log):
    x, seen = torch.ones(3, 64), []
    for name in ("torch", *native_kernels):
        model = Small()
        enable(model, CALIB_STEPS="0", BACKEND=f" {name.upper()} ")
        seen.append(model(x))
        assert f"transforms by {name} (" in next(line for line in log.messages[::-1] if "sums by" in line)
    assert all(torch.equal(found, seen[0]) for found in seen)
    model = Small()
    with pytest.raises(DuQuantConfigError, match=r"BACKEND='protable': did you mean portable\?"):
        enable(model, CALIB_STEPS="0", BACKEND="protable")


@pytest.mark.parametrize("precache", ["0", "1"])
def test_precache_decides_whether_an_unpacked_weight_stays(precache):
    model = Small()
    report = enable(model, CALIB_STEPS="0", PRECACHE_WEIGHTS=precache, BACKEND="torch")
    before = report.linear_bytes
    model(torch.ones(3, 64))
    assert report.linear_bytes - before == int(precache) * (64 * 48 + 48 * 32)
