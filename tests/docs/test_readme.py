"""README and documents. Oracles: the config's declarations, the scripts, and the files that are spoken of."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from gr00t.eval.arms.published import suite_data_config, suite_model
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import DuQuantConfig, DuQuantLinear
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.settings.environment import PREFIX
from tests.shell import REPO

DOCUMENTS = {
    str(path.relative_to(REPO)): path.read_text(encoding="utf-8")
    for path in [*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("examples/**/*.md")]
}
QUANTIZATION = DOCUMENTS["docs/QUANTIZATION.md"]
VARIABLES = {name for name, _, _ in DEFAULTS.variables()}


def blocks(document: str, language: str) -> str:
    """All code blocks in a language, one after the other."""
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", DOCUMENTS[document], re.DOTALL | re.MULTILINE))


def test_table_of_variables_is_the_configs_own() -> None:
    text = (
        "import sys; sys.path.insert(0, 'scripts'); import update_variables as u; "
        "sys.stdout.buffer.write(u.with_table(u.DOCUMENT.read_text(encoding='utf-8')).encode())"
    )
    run = subprocess.run([sys.executable, "-c", text], cwd=REPO, capture_output=True, check=True)
    assert run.stdout.decode() == QUANTIZATION, "out of date; run: python scripts/update_variables.py"


@pytest.mark.parametrize(("flag", "status"), [("--help", 0), ("--chekc", 2)])
def test_asking_for_help_writes_nothing(flag: str, status: int) -> None:
    before = (REPO / "docs" / "QUANTIZATION.md").stat().st_mtime_ns
    run = subprocess.run([sys.executable, "scripts/update_variables.py", flag], cwd=REPO, capture_output=True)
    assert run.returncode == status
    assert b"usage: update_variables.py" in run.stdout + run.stderr
    assert (REPO / "docs" / "QUANTIZATION.md").stat().st_mtime_ns == before


def test_every_variable_has_a_row() -> None:
    rows = re.findall(rf"^\| `({PREFIX}\w+)` \|", QUANTIZATION, re.MULTILINE)
    assert set(rows) == VARIABLES
    assert len(rows) == len(VARIABLES)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_variable_that_is_mentioned_exists(document: str) -> None:
    mentioned = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", DOCUMENTS[document]))
    assert mentioned <= VARIABLES


def test_exports_of_the_manual_way_are_the_defaults_of_the_config() -> None:
    exports = dict(
        re.findall(r"""^export (\w+)=["']?(.*?)["']?$""", blocks("docs/SERVING.md", "bash"), re.MULTILINE)
    )
    assert len(exports) == 13
    config = DuQuantConfig.from_environ(exports)
    assert config is not None
    differing = {name for name, value in config.to_dict().items() if DEFAULTS.to_dict()[name] != value}
    assert differing == {PREFIX + "DEBUG", PREFIX + "PACKDIR"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_file_exists(document: str) -> None:
    text = DOCUMENTS[document]
    folder = (REPO / document).parent
    named = set(re.findall(r"\./(\w+\.sh)|\b((?:scripts|gr00t|examples|tests)/[\w/.-]*\w)", text))
    links = set(re.findall(r"\]\((?!https?:)([\w/.-]+)", text))
    assert [
        path for path in sorted(first or second for first, second in named) if not (REPO / path).exists()
    ] == []
    assert [path for path in sorted(links) if not (folder / path).exists()] == []


def test_the_walks_pass_files_that_exist() -> None:
    walks = DOCUMENTS["docs/ARCHITECTURE.md"].partition("## A walk")[2]
    named = set(re.findall(r"`((?:data|eval|libero|model|quantization|serving)/[\w/.]*\w)`", walks))
    assert len(named) > 25
    assert [path for path in sorted(named) if not (REPO / "gr00t" / path).exists()] == []


def test_the_readme_is_read_in_one_go() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 150
    assert {
        f"docs/{name}.md" for name in ("ARCHITECTURE", "CONTRIBUTING", "QUANTIZATION", "EVALUATION")
    } <= set(re.findall(r"\]\(([\w/.-]+)\)", DOCUMENTS["README.md"]))


def test_python_of_the_readme_quantizes_any_module_and_gr00t(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 64))
    x = torch.randn(5, 64)
    before = model(x)
    names = {"model": model, "checkpoint": REPO / "examples" / "Libero" / "demo_policy"}
    exec(compile(blocks("README.md", "python"), "README.md", "exec"), names)
    assert capsys.readouterr().out.splitlines()[0].startswith("0: Linear(64->48) W4 A8 ")
    assert [type(layer).__name__ for layer in model] == ["DuQuantLinear", "GELU", "DuQuantLinear"]
    # Measured: 20.4 dB on an AMD EPYC.
    assert 10 < sqnr_db(before, model(x)) < 40
    quantized = [
        name for name, layer in names["policy_model"].named_modules() if isinstance(layer, DuQuantLinear)
    ]
    assert len(quantized) == 40
    assert not [name for name in quantized if "vision" in name or ("attn" in name and "language" not in name)]


@pytest.mark.parametrize("suite", ["spatial", "object", "goal", "10", "90"])
def test_table_of_suites_is_that_of_the_scripts(suite: str) -> None:
    name = f"libero_{suite}"
    config = suite_data_config(name).partition(":")[2]
    assert f"| `{name}` | `{suite_model(name)}` | `{config}` |" in DOCUMENTS["docs/EVALUATION.md"]
