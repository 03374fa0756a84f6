"""Variables that nothing reads. Oracle: the names told, and the text beside each."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from gr00t.quantization.settings import unread_variables
from gr00t.quantization.settings.environment import PREFIX, DuQuantConfig, settings_in
from tests.shell import REPO


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread_variables, "_told", set())


def told(caplog: pytest.LogCaptureFixture, **variables: str) -> list[str]:
    """The lines of the warning that reading `variables` logs."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        DuQuantConfig.from_environ(variables)
    assert len(caplog.messages) <= 1
    return caplog.messages[0].splitlines()[1:] if caplog.messages else []


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("GR00T_ATM_ENABLE", "attention-temperature matching is not supported"),
        ("GR00T_ATM_ALPHA_PATH", "attention-temperature matching is not supported"),
        ("GR00T_ATM", "attention-temperature matching is not supported"),
        ("gr00t_atm_enable", "attention-temperature matching is not supported"),
        ("GROOT_ATM_ENABLE", "attention-temperature matching is not supported"),
        ("GR00T_OHB_ENABLE", "output-head balancing is not supported"),
        ("GR00T_OHB_BETA_PATH", "output-head balancing is not supported"),
        ("GR00T_DENOISING_STEPS", "use the flag --denoising-steps"),
        ("GR00T_PORT", "use the flag of that name"),
        ("GR00T_MODEL_PATH", "use the flag --model-path"),
        ("GR00T_FROBNICATE", "no variable of that name is known; unset it"),
        ("GR00T_DUQANT_WBITS", "did you mean GR00T_DUQUANT_WBITS?"),
        ("GR00TDUQUANT_ABITS", "did you mean GR00T_DUQUANT_ABITS?"),
        ("GR00T-DUQUANT-ABITS", "did you mean GR00T_DUQUANT_ABITS?"),
        ("GR00T_WBITS_DEFAULT", "did you mean GR00T_DUQUANT_WBITS_DEFAULT?"),
        ("GR00T_CALIB_STEP", "did you mean GR00T_DUQUANT_CALIB_STEPS?"),
        ("gr00t_duquant_wbits", "did you mean GR00T_DUQUANT_WBITS?"),
        ("Gr00t_DuQuant_Block", "did you mean GR00T_DUQUANT_BLOCK?"),
        ("GROOT_DUQUANT_LS", "did you mean GR00T_DUQUANT_LS?"),
        ("GROT_DUQUNT_LS", "did you mean GR00T_DUQUANT_LS?"),
        ("DUQUANT_WBITS_DEFAULT", "did you mean GR00T_DUQUANT_WBITS_DEFAULT?"),
        ("OPENPI_DUQUANT_PACKDIR", "did you mean GR00T_DUQUANT_PACKDIR?"),
        (" GR00T_DUQUANT_ABITS", "did you mean GR00T_DUQUANT_ABITS?"),
    ],
)
def test_each_is_named_with_what_to_do(caplog: pytest.LogCaptureFixture, name: str, advice: str) -> None:
    (line,) = told(caplog, **{name: "1"})
    assert line.startswith(f"  {name}: {advice}")


def test_all_are_told_together_and_once(caplog: pytest.LogCaptureFixture) -> None:
    variables = {"GR00T_ATM_ENABLE": "1", "GR00T_DENOISING_STEPS": "8", PREFIX + "ABITS": "8"}
    assert [line.split(":")[0].strip() for line in told(caplog, **variables)] == [
        "GR00T_ATM_ENABLE",
        "GR00T_DENOISING_STEPS",
    ]
    assert told(caplog, **variables) == []
    assert [line.split(":")[0].strip() for line in told(caplog, **variables, GR00T_OHB="1")] == ["GR00T_OHB"]


def test_what_is_read_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    known = {name: text for name, text, _ in DuQuantConfig().variables() if text}
    others = {
        "PATH": "/bin",
        "GROUP": "x",
        "QUANT": "1",
        "HF_TOKEN": "x",
        "LIBERO_ASSETS": "x",
        "GRPC_DNS": "1",
    }
    for_tests = {"GR00T_PARITY_SETS": "x", "GR00T_TOKENIZER": "x"}
    assert told(caplog, **known, **others, **for_tests) == []


def test_what_scripts_and_tests_set_is_read() -> None:
    """The names in this repository that begin like ours are settings, or among those that tests read."""
    listed = subprocess.run(
        ["git", "grep", "-hoE", r"\bGR00T_[A-Z0-9_]+", "--", "*.sh", "scripts", ".github"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout; run the tests from a clone")
    names = set(listed.stdout.split()) - {PREFIX, "GR00T_N1_5"}
    known = {name for name, _, _ in DuQuantConfig().variables()}
    assert names <= known | {"GR00T_PARITY_SETS", "GR00T_TOKENIZER"}


def test_a_dry_run_tells_it_where_nothing_turns_quantization_on() -> None:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_")}
    ended = subprocess.run(
        [sys.executable, "scripts/scan_linear_layers.py", "--dry-run"],
        cwd=REPO,
        env={**environ, "GR00T_ATM_ENABLE": "1", "GR00T_DENOISING_STEPS": "8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("GR00T_ATM_ENABLE") == 1
    assert "GR00T_DENOISING_STEPS: use the flag --denoising-steps" in ended.stderr


def test_an_evaluation_tells_it_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPO / "scripts"))
    with caplog.at_level(logging.WARNING):
        assert settings_in({"GR00T_OHB_ENABLE": "1", PREFIX + "ABITS": "8"}) == {"ABITS": "8"}
    assert "GR00T_OHB_ENABLE: output-head balancing is not supported" in caplog.text
