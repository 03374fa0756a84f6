"""The order of files that the package's own docstring gives: all are in it, and imports run downward only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import gr00t.quantization as package

FOLDER = Path(package.__file__).parent
ORDER = re.findall(r"`(\w+)`", (package.__doc__ or "").partition("Its files")[2])


def own_imports(path: Path) -> set[str]:
    """Files of the package that `path` imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gr00t.quantization"):
            parts = (node.module or "").split(".")[2:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found


def test_every_file_has_its_place():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} | {"kernels"}
    assert sorted(ORDER) == sorted(files)


def test_imports_run_downward_only():
    wrong = [
        f"{name} imports {other}"
        for name in ORDER
        for path in [*FOLDER.glob(f"{name}.py"), *FOLDER.glob(f"{name}/*.py")]
        for other in own_imports(path) - {name}
        if ORDER.index(other) >= ORDER.index(name)
    ]
    assert wrong == []
