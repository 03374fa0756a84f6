"""scripts/scan_linear_layers.py: the table, the JSON and the dry-run, run as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gr00t.model.artefact import export_artefact
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import LAYERS, quantized, variables
from tests.shell import REPO


def scan(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_DUQUANT_")}
    environ |= {f"GR00T_DUQUANT_{name}": text for name, text in variables.items()}
    return subprocess.run(
        [sys.executable, REPO / "scripts" / "scan_linear_layers.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPO,
        env=environ | {"PYTHONPATH": str(REPO)},
        check=False,
    )


def test_the_table_lists_every_linear_and_counts_them():
    done = scan()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[-1] == "387 Linear layers, 116 quantized, 271 in floating point"
    assert len(lines) == 388
    assert [line.split()[1:] for line in lines if line.startswith("action_head.layers.0.mlp.up_proj ")] == [
        ["1536->6144", "+bias", "W4", "A8", "perm=True", "block_in=16", "block_out=16", "row_rot=restore"]
    ]
    assert done.stderr == "Architecture: the built-in full-size architecture\n"


def test_n1_7_is_listed_by_its_name_alone():
    done = scan("--model-path", "nvidia/GR00T-N1.7-3B")
    lines = done.stdout.splitlines()
    assert lines[-1] == "468 Linear layers, 176 quantized, 292 in floating point"
    assert done.stderr == (
        "Architecture: the built-in full-size architecture: nvidia/GR00T-N1.7-3B is not in the local cache\n"
    )
    dry = scan("--dry-run", "--model-path", "nvidia/GR00T-N1.7-3B", WBITS_DEFAULT="4")
    assert dry.returncode == 0
    assert sum("W4 A8" in line for line in dry.stderr.splitlines()) >= 176


def test_json_tells_the_same_by_both_names():
    found = json.loads(scan("--json", "--model-path", "someone/a-fine-tune", WBITS_DEFAULT="6").stdout)
    assert (found["linear_layers"], found["quantized"]) == (387, 116)
    layer = next(row for row in found["layers"] if row["name"] == "action_head.layers.3.mlp.down_proj")
    assert layer["checkpoint_name"] == "action_head.model.transformer_blocks.3.ff.net.2"
    assert (layer["in_features"], layer["out_features"], layer["bias"]) == (6144, 1536, True)
    assert layer["settings"].startswith("W6 A8")


def test_the_scope_wide_is_listed_with_its_bits_and_counted():
    done = scan("--json", "--scope", "wide")
    found = json.loads(done.stdout)
    assert (found["linear_layers"], found["quantized"]) == (387, 367)
    bits = Counter(row["settings"][:5] for row in found["layers"])
    assert bits == {"": 20, "W4 A8": 116, "W8 A8": 251}
    assert done.stderr.splitlines()[-1] == (
        "[GR00T-DUQUANT] Scope wide: 251 layers beyond the document's 116 (vision 162, connector 1, adapter "
        "24, DiT attention 64)"
    )
    wrong = scan("--scope", "wied")
    assert (wrong.returncode, wrong.stderr.splitlines()[-1]) == (
        2,
        "error: --scope wied: did you mean wide? (a prefix of layers' names is GR00T_DUQUANT_SCOPE)",
    )


def test_a_dry_run_honours_what_is_exported_and_ends_with_status_0():
    done = scan("--dry-run", BLOCK="32", SCOPE="action_head.", ROW_ROT="0")
    assert done.returncode == 0
    listed = [line for line in done.stderr.splitlines() if "[DRYRUN]" in line]
    assert len(listed) == 32
    assert listed[0] == (
        "[GR00T-DUQUANT][DRYRUN] action_head.layers.0.mlp.up_proj: Linear(1536->6144) W4 A8 perm=True "
        "block_in=32 block_out=32 row_rot=0"
    )
    assert done.stderr.splitlines()[-1] == "[GR00T-DUQUANT] Dry-run total layers listed: 32"


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (
            (),
            {"ABIT": "8"},
            "error: bad DuQuant settings\n  GR00T_DUQUANT_ABIT: unknown variable; did you mean",
        ),
        ((), {"INCLUDE": "nope"}, "none of 387 Linear layers is selected"),
        (("--model-path", "/no/such/folder"), {}, "/no/such/folder"),
    ],
)
def test_what_cannot_be_listed_is_one_message_and_status_1(arguments, variables, message):
    done = scan(*arguments, **variables)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_artefact_is_listed_as_it_was_exported(tmp_path: Path):
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0", BLOCK="32", SCOPE="action_head."))
    export_artefact(model, report, checkpoint, tmp_path / "artefact")
    found = json.loads(scan("--json", "--model-path", str(tmp_path / "artefact")).stdout)
    taken = [layer for layer in found["layers"] if layer["quantized"]]
    assert 0 < len(taken) == found["quantized"] < LAYERS
    assert {layer["name"].split(".")[0] for layer in taken} == {"action_head"}
    assert all("block_in=32" in layer["settings"] for layer in taken)
    listed = scan("--dry-run", "--model-path", str(tmp_path / "artefact"))
    assert f"Dry-run total layers listed: {len(taken)}" in listed.stderr
    refused = scan("--model-path", str(tmp_path / "artefact"), BLOCK="16")
    assert refused.returncode == 1
    assert "GR00T_DUQUANT_BLOCK='16': exported with '32'" in refused.stderr


def test_a_row_rotation_is_told_as_neighbours_decide_it(tmp_path: Path):
    """Oracle: the layers of the model that was exported."""
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    settings = {"CALIB_STEPS": "0", "ROW_ROT": "propagate"}
    model, report = quantized(checkpoint, variables(**settings))
    expected = {name: str(layer.spec) for name, layer in report.layers.items()}
    rotations = {text.partition("row_rot=")[2].split()[0] for text in expected.values()}
    assert rotations == {"restore", "propagate"}
    export_artefact(model, report, checkpoint, tmp_path / "artefact")
    for folder, given in (("checkpoint", settings), ("artefact", {})):
        found = json.loads(scan("--json", "--model-path", str(tmp_path / folder), **given).stdout)
        assert {row["name"]: row["settings"] for row in found["layers"] if row["quantized"]} == expected
