"""Oracle: the picture of the architecture, as a table. The tree is read with `ast`, nothing is imported.

Each rule is a function of paths and source texts, so that every one of them is also shown a violation.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell import REPO

# Part of gr00t -> the other parts that it may import. Imports run downward only.
_LOW = {"spelling", "console", "machine", "files", "processes", "strict_json", "validation"}
MAY_IMPORT = {
    "spelling": set(),
    "console": set(),
    "machine": set(),
    "files": {"strict_json"},
    "processes": set(),
    "strict_json": set(),
    "validation": set(),
    "quantization": {"files", "spelling", "strict_json"},
    "data": {"files", "spelling", "strict_json"},
    "model": {"data", "files", "quantization", "spelling", "strict_json"},
    "experiment": {"data", "model", "spelling"},
    "serving": {"data", "files", "spelling", "strict_json"},
    "libero": {"files", "processes", "spelling", "strict_json"},
    "testing": {"data", "model"},
    "training": {"data", "experiment", "files", "model", "serving", "spelling"},
    "eval": {"data", "libero", "machine", "quantization", "serving", *_LOW},
    "utils": {"data", "eval"},
    "cli": {
        "testing",
        "data",
        "eval",
        "experiment",
        "libero",
        "model",
        "quantization",
        "serving",
        "training",
        *_LOW,
    },
}
# Where the model meets quantization; nothing else below `model` knows it.
MEETS_QUANTIZATION = {f"gr00t/model/{name}.py" for name in ("quantized_layers", "artefact", "checkpoints")}
NEEDS_NO_TORCH = {
    *("gr00t/serving/wires/n1_5.py", "gr00t/serving/wires/outline.py", "gr00t/serving/client.py"),
    *("gr00t/serving/sockets/address.py", "gr00t/serving/sockets/reach.py", "gr00t/serving/wires/foreign.py"),
    *("gr00t/serving/wires/places.py", "gr00t/data/dataset.py", "gr00t/spelling.py"),
    *("gr00t/eval/client.py", "gr00t/eval/wire.py"),
}
# Where a variable's name may be written out: its declaration. Elsewhere it comes from there.
MAY_SPELL_VARIABLES = {"gr00t/quantization/settings/environment.py"}
MAY_READ_ENVIRONMENT = {"gr00t/model/policy.py"}
MAX_LINES = 400
# Somebody's machine: an absolute path that exists nowhere else.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|work|root|Users|mnt|data)/[\w.-]+")


def tracked_files() -> list[Path]:
    """Files of the repository, also those not yet committed; neither environments nor outputs."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout; run the tests from a clone")
    return [Path(line) for line in listed.stdout.splitlines() if (REPO / line).is_file()]


def library() -> list[tuple[str, str]]:
    """(path, source) of every module of gr00t."""
    return [(str(path), (REPO / path).read_text()) for path in tracked_files() if _is_library(path)]


def below_programs() -> list[tuple[str, str]]:
    """What programs call: all but `gr00t.cli`, where people are talked to."""
    return [(path, source) for path, source in library() if not path.startswith("gr00t/cli/")]


def _is_library(path: Path) -> bool:
    return path.parts[0] == "gr00t" and path.suffix == ".py"


def imported_modules(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from gr00t import spelling` names a part, `from gr00t.model import x` already did.
            yield from (
                f"{node.module}.{alias.name}" if node.module == "gr00t" else node.module
                for alias in node.names
            )


def forbidden_imports(path: str, source: str) -> set[str]:
    parts = Path(path).with_suffix("").parts
    own = parts[1]
    allowed = MAY_IMPORT.get(own, set()) | {own}
    if own == "model" and path not in MEETS_QUANTIZATION:
        allowed -= {"quantization"}
    names = {name for name in imported_modules(source) if name.split(".")[0] == "gr00t"}
    if own == "__init__":
        return names
    return {name for name in names if len(name.split(".")) > 1 and name.split(".")[1] not in allowed} - {
        "gr00t.__version__"
    }


def heavy_imports(source: str) -> set[str]:
    """Imports of torch or of what imports it, at whatever depth of the file."""
    return {name for name in imported_modules(source) if name.split(".")[0] in ("torch", "transformers")} | {
        name for name in imported_modules(source) if name.startswith(("gr00t.model", "gr00t.quantization"))
    }


def spelled_variables(source: str) -> set[str]:
    """Whole variable names in code: what docstrings, comments and messages tell people is not a reading."""
    values = (
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {value for value in values if re.fullmatch(r"GR00T_DUQUANT_\w*", value)}


def environment_reads(source: str) -> list[int]:
    """Lines that touch the process's environment."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv"))
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]


def prints(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def work_at_import(source: str) -> list[int]:
    """Calls as statements at module level: configuring logging, seeding, changing directories."""
    return [
        node.lineno
        for node in ast.parse(source).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]


def hand_made_files(source: str) -> set[str]:
    """What `gr00t.files` is for: writing aside and renaming, temporary names in place, locks."""
    names = {"os.replace", "os.rename", "tempfile.mkstemp", "tempfile.NamedTemporaryFile", "fcntl.flock"}
    found = {ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    return found & names


def test_imports_run_downward() -> None:
    assert {path: found for path, source in library() if (found := forbidden_imports(path, source))} == {}


def test_every_part_of_gr00t_has_its_place_in_the_picture() -> None:
    parts = {Path(path).with_suffix("").parts[1] for path, _ in library()} - {"__init__"}
    assert parts == MAY_IMPORT.keys()


def test_the_client_and_what_it_needs_import_no_torch() -> None:
    sources = dict(library())
    assert {path: found for path in NEEDS_NO_TORCH if (found := heavy_imports(sources[path]))} == {}


def test_only_the_config_spells_the_variables() -> None:
    found = {
        path: names
        for path, source in library()
        if (names := spelled_variables(source)) and not path.startswith("gr00t/cli/")
    }
    assert found.keys() <= MAY_SPELL_VARIABLES, found


def test_only_programs_and_the_policy_read_the_environment() -> None:
    found = {path: lines for path, source in below_programs() if (lines := environment_reads(source))}
    assert found.keys() <= MAY_READ_ENVIRONMENT, found


def test_the_library_prints_nothing() -> None:
    assert {path: lines for path, source in below_programs() if (lines := prints(source))} == {}


def test_importing_does_no_work() -> None:
    assert {path: lines for path, source in library() if (lines := work_at_import(source))} == {}


def test_files_are_written_as_a_whole_and_locked_in_one_way() -> None:
    found = {path: names for path, source in library() if (names := hand_made_files(source))}
    elsewhere = {path for path in found if not path.startswith("gr00t/files/")}
    assert elsewhere == {"gr00t/quantization/kernels/library_file.py"}  # under the hash of what it moves


def test_no_file_is_longer_than_400_lines() -> None:
    code = [path for path in tracked_files() if path.suffix in (".py", ".sh")]
    assert len(code) > 50
    assert {
        str(path): n for path in code if (n := len((REPO / path).read_text().splitlines())) > MAX_LINES
    } == {}


def test_no_path_of_somebodys_machine() -> None:
    found = {}
    for path in tracked_files():
        if path.suffix in (".py", ".sh", ".md", ".toml", ".txt", ".json", "") and path.name != "LICENSE":
            text = (REPO / path).read_text(errors="ignore")
            if path.name != Path(__file__).name and (match := MACHINE_PATH.search(text)):
                found[str(path)] = match[0]
    assert found == {}


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (
            lambda text: forbidden_imports("gr00t/quantization/x.py", text),
            "from gr00t.model.network.dit import Dit",
        ),
        (
            lambda text: forbidden_imports("gr00t/model/network/dit.py", text),
            "def f():\n    import gr00t.quantization",
        ),
        (lambda text: forbidden_imports("gr00t/data/x.py", text), "from gr00t import model"),
        (
            lambda text: forbidden_imports("gr00t/__init__.py", text),
            "from gr00t.spelling import did_you_mean",
        ),
        (heavy_imports, "def f():\n    from torch import nn"),
        (heavy_imports, "import gr00t.model.policy"),
        (spelled_variables, "value = environ['GR00T_DUQUANT_ABITS']"),
        (environment_reads, "import os\nx = os.environ.get('A')"),
        (environment_reads, "import os\nx = os.getenv('A')"),
        (prints, "def f():\n    print(1)"),
        (work_at_import, "import logging\nlogging.basicConfig()"),
        (hand_made_files, "import os\ndef f():\n    os.replace(a, b)"),
        (MACHINE_PATH.search, "cd " + "/ho" + "me/somebody/project"),
    ],
)
def test_each_rule_sees_a_violation(rule, source) -> None:
    assert rule(source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (lambda text: forbidden_imports("gr00t/model/checkpoints.py", text), "import gr00t.quantization"),
        (lambda text: forbidden_imports("gr00t/serving/client.py", text), "from gr00t import __version__"),
        (spelled_variables, '"""Reads `GR00T_DUQUANT_ABITS` and others."""'),
        (environment_reads, "def f(environ):\n    return environ['A']"),
        (MACHINE_PATH.search, "https://example.org/data/set and scripts/data/file"),
    ],
)
def test_no_rule_sees_a_violation_where_there_is_none(rule, source) -> None:
    assert not rule(source)
