"""Oracle: the layout of docs/ARCHITECTURE.md, as rules. The tree is read with `ast`, nothing is imported.

Each rule is a function of paths and source texts, so that every one of them is also shown a violation.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from tests.shell import REPO
from tests.test_structure import library, tracked_files

MAX_FILES = 15
# Commands, one small file each.
TABLES = {"scripts"}

Graph = Mapping[str, set[str]]


def module_of(path: str) -> str:
    """`gr00t.data` of `gr00t/data/__init__.py`."""
    return ".".join(PurePosixPath(path).with_suffix("").parts).removesuffix(".__init__")


def imports(files: list[tuple[str, str]]) -> Graph:
    """Module -> the modules among `files` that it imports, at whatever depth of the file."""
    # `gr00t` itself imports nothing and tells its version to everybody.
    known = {module_of(path) for path, _ in files} - {"gr00t"}
    return {module_of(path): set(_imported(source, known)) - {module_of(path)} for path, source in files}


def _imported(source: str, known: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


def circle(graph: Graph) -> set[str]:
    """What remains when everything that imports nothing, or that nothing imports, is taken away."""
    left = {name: {to for to in to_all if to in graph} for name, to_all in graph.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        ends = {name for name, to in left.items() if not to or name not in imported}
        if not ends:
            return set(left)
        left = {name: to - ends for name, to in left.items() if name not in ends}


def neighbours(graph: Graph) -> dict[str, Graph]:
    """Package -> its files and folders, and which of them import which."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, imported in graph.items():
        for other in imported:
            parts, others = name.split("."), other.split(".")
            same = 0
            while same < min(len(parts), len(others)) and parts[same] == others[same]:
                same += 1
            if same < len(parts):
                package = ".".join(parts[:same])
                # A file of a package that imports the package itself is a circle with its __init__.
                to = others[same] if same < len(others) else "__init__"
                found[package][parts[same]].add(to)
                found[package].setdefault(to, set())
                if to == "__init__":
                    found[package][to].add(parts[same])
    return {package: dict(inner) for package, inner in found.items()}


def crowded(paths: list[str]) -> dict[str, int]:
    """Folders with more files than one glance takes in."""
    counts = Counter(str(PurePosixPath(path).parent) for path in paths)
    return {folder: count for folder, count in counts.items() if count > MAX_FILES}


def names_of_two_classes(files: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Public names that stand for more than one class."""
    where: dict[str, list[str]] = defaultdict(list)
    for path, source in files:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(path)
    return {name: paths for name, paths in where.items() if len(paths) > 1}


def without_a_room(tests: list[str], rooms: set[str]) -> set[str]:
    """Folders of tests that are named after no folder of what they test."""
    return {
        folder
        for folder in {str(PurePosixPath(test).parent.relative_to("tests")) for test in tests}
        if folder != "." and folder not in rooms and folder.split("/")[0] not in ("attacks", "docs", "golden")
    }


def code() -> list[str]:
    return [str(path) for path in tracked_files() if path.suffix == ".py"]


def test_no_circle_of_files() -> None:
    assert circle(imports(library())) == set()


def test_neighbours_import_one_another_in_one_direction() -> None:
    found = {package: circle(graph) for package, graph in neighbours(imports(library())).items()}
    assert {package: names for package, names in found.items() if names} == {}


def test_a_folder_is_taken_in_at_one_glance() -> None:
    found = crowded(code())
    assert found.keys() <= TABLES, found


def test_a_name_stands_for_one_class() -> None:
    assert names_of_two_classes(library()) == {}


def rooms(paths: list[str]) -> set[str]:
    """Folders and modules that a folder of tests can be named after."""
    inside = [PurePosixPath(path).relative_to("gr00t") for path in paths if path.startswith("gr00t/")]
    beside = [PurePosixPath(path) for path in paths if path.startswith(("scripts/", "examples/"))]
    return {str(name) for path in [*inside, *beside] for name in (path.parent, path.with_suffix(""))}


def test_tests_lie_where_what_they_test_lies() -> None:
    paths = code()
    tests = [path for path in paths if path.startswith("tests/")]
    assert without_a_room(tests, rooms(paths)) == set()


def test_every_room_says_its_role_in_one_sentence() -> None:
    roles = {
        str(PurePosixPath(path).parent): (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
        for path, source in library()
        if path.endswith("__init__.py")
    }
    assert roles.keys() == {str(PurePosixPath(path).parent) for path, _ in library()}
    assert {folder: role for folder, role in roles.items() if not role.endswith(".")} == {}


def drawn(graph: Graph) -> set[tuple[str, str]]:
    """The imports between rooms that no longer way implies."""
    below: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in below:
            below[room] = set().union(*({to} | reach(to) for to in graph.get(room, set())))
        return below[room]

    return {
        (room, to)
        for room, all_to in graph.items()
        for to in all_to
        if not any(to in reach(other) for other in all_to - {to})
    }


def test_the_picture_is_drawn_from_the_imports() -> None:
    text = (REPO / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    picture = re.search(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert picture is not None
    arrows = set(re.findall(r"^ +(\w+) --> (\w+)$", picture[1], re.MULTILINE))
    expected = drawn(neighbours(imports(library()))["gr00t"])
    assert arrows == expected, "\n".join(f"    {room} --> {to}" for room, to in sorted(expected))


A = "gr00t/a/one.py"
B = "gr00t/b/two.py"


def test_each_rule_sees_a_violation() -> None:
    both = [(A, "from gr00t.b import two"), (B, "def f():\n    from gr00t.a.one import x")]
    assert circle(imports(both)) == {"gr00t.a.one", "gr00t.b.two"}
    # No circle of files, but of folders.
    files = [*both[:1], ("gr00t/b/three.py", "import gr00t.a.four"), (B, ""), ("gr00t/a/four.py", "")]
    assert circle(imports(files)) == set()
    assert {package: circle(graph) for package, graph in neighbours(imports(files)).items()} == {
        "gr00t": {"a", "b"}
    }
    own = [("gr00t/a/__init__.py", ""), (A, "from gr00t.a import x")]
    assert circle(neighbours(imports(own))["gr00t.a"]) == {"one", "__init__"}
    assert drawn({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {("a", "b"), ("b", "c")}
    assert crowded([f"gr00t/a/{number}.py" for number in range(MAX_FILES + 1)]) == {"gr00t/a": MAX_FILES + 1}
    assert names_of_two_classes([(A, "class Job: pass"), (B, "class Job: pass")]) == {"Job": [A, B]}
    assert without_a_room(["tests/data_pipeline/test_x.py"], {"data"}) == {"data_pipeline"}


def test_no_rule_sees_a_violation_where_there_is_none() -> None:
    files = [(A, "from gr00t.b import two\nfrom gr00t import __version__"), (B, "import os")]
    assert circle(imports([*files, ("gr00t/__init__.py", "")])) == set()
    assert all(not circle(graph) for graph in neighbours(imports(files)).values())
    assert crowded([f"gr00t/a/{number}.py" for number in range(MAX_FILES)]) == {}
    assert names_of_two_classes([(A, "class _Job: pass"), (B, "class _Job: pass")]) == {}
    assert without_a_room(["tests/data/test_x.py", "tests/test_y.py"], {"data"}) == set()
