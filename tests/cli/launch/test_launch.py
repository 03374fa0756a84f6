"""Oracle: the customer's document: suites, models, settings and the command of the server."""

from __future__ import annotations

import dataclasses

import pytest

from gr00t.cli.launch.actions import server_program, show, with_documented
from gr00t.cli.launch.requests import QuantizedRequest, ServeRequest, option_value, read_request
from gr00t.eval.arms.published import suite_model
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import DuQuantConfig, Rounding
from tests.shell import REPO, shell


@pytest.mark.parametrize(
    ("name", "suite", "model", "data_config"),
    [
        ("libero_spatial", "libero_spatial", "spatial", "LiberoDataConfig"),
        ("object", "libero_object", "object", "LiberoDataConfig"),
        ("LIBERO-Goal", "libero_goal", "goal", "LiberoDataConfigMeanStd"),
        ("libero_10", "libero_10", "long", "LiberoDataConfig"),
        ("long", "libero_10", "long", "LiberoDataConfig"),
        ("libero_90", "libero_90", "90", "LiberoDataConfig"),
    ],
)
def test_suite_has_the_documented_model_and_data_config(name, suite, model, data_config) -> None:
    request = read_request("run_inference_server.sh", name, "--port", "5556")
    assert isinstance(request, ServeRequest)
    assert (request.suite, request.model, list(request.options)) == (suite, "", ["--port", "5556"])
    assert " ".join(server_program(suite_model(suite), suite, 5555)) == (
        f"scripts/inference_service.py --model_path youliangtan/gr00t-n1.5-libero-{model}-posttrain --server "
        f"--data_config examples.Libero.custom_data_config:{data_config} --denoising-steps 8 --port 5555 "
        f"--embodiment-tag new_embodiment"
    )


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", ""),
        ("--arms bf16 --trials 3", ""),
        ("--output a --arms bf16", "a"),
        ("--output=a/b=c", "a/b=c"),
        ("--output a --output=b", "b"),
    ],
)
def test_an_option_of_the_evaluation_is_found(arguments: str, value: str) -> None:
    assert option_value("--output", arguments.split()) == value


@pytest.mark.parametrize(
    ("arguments", "groups"), [("goal -y", "core"), ("goal --eval", "core libero"), ("demo", "core libero")]
)
def test_what_is_needed_is_told_before_anything_is_installed(arguments: str, groups: str) -> None:
    """By a Python that finds nothing but its own library."""
    command = '-I -S -c \'import runpy, sys; sys.path.insert(0, "."); sys.argv[0] = "launch"; '
    command += 'runpy.run_module("gr00t.cli.launch", run_name="__main__")\''
    run = shell(f"python3 {command} --groups run_libero_quant_w4a8.sh {arguments} --port 5999", cwd=REPO)
    assert (run.stdout, run.stderr) == (f"{groups}\n", "")


DOCUMENTED = {
    "SCOPE": "",
    "INCLUDE": r".*(backbone\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|action_head\..*\.mlp\.(gate_proj|up_proj|down_proj)).*",
    "EXCLUDE": r"(?:^|\.)(vision|radio|norm|ln|layernorm|embed|lm_head)(?:\.|$)|action_head\..*\.self_attn\.",
    "WBITS_DEFAULT": "4",
    "ABITS": "8",
    "BLOCK": "16",
    "PERMUTE": "1",
    "ROW_ROT": "restore",
    "ACT_PCT": "99.9",
    "CALIB_STEPS": "32",
    "LS": "0.15",
    "ROUNDING": "nearest",  # the document knows no other
}


def test_scripts_export_the_documented_settings() -> None:
    settings = with_documented({})
    assert settings == {f"GR00T_DUQUANT_{name}": value for name, value in DOCUMENTED.items()}
    assert DuQuantConfig.from_environ(settings) == dataclasses.replace(DEFAULTS, rounding=Rounding.NEAREST)


def test_an_exported_setting_wins_and_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    changed = {"GR00T_DUQUANT_ABITS": "16", "GR00T_DUQUANT_INCLUDE": "", "GR00T_DUQUANT_ROTATION": "svd"}
    settings = with_documented(changed, PACKDIR="packs")
    assert {name: settings[name] for name in changed} == changed
    assert settings["GR00T_DUQUANT_PACKDIR"] == "packs"
    show(changed, settings, {"suite": "libero_goal"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  suite                libero_goal"
    marked = {line.split("=")[0].strip() for line in lines if "(from your environment)" in line}
    assert marked == changed.keys()


def test_the_one_command_takes_its_options_and_gives_the_evaluation_its_own() -> None:
    line = "goal a/model --seed 7 --eval --port=5999 -- --tasks 2 --port 3"
    assert read_request("run_libero_quant_w4a8.sh", *line.split()) == QuantizedRequest(
        suite="libero_goal",
        model="a/model",
        port=5999,
        evaluates=True,
        server_options=["--seed", "7"],
        evaluation=["--tasks", "2", "--port", "3"],
    )
