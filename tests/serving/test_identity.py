"""What answers, by content. Oracle: one thing changed, one hash changed; nothing changed, none."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from gr00t.experiment.data_config import load_data_config
from gr00t.files.hashing import hash_file
from gr00t.serving import identity
from gr00t.serving.identity import config_hash, digest, folder_hash, served_identity, source_files
from tests.shell import REPO
from tests.test_layout import imports, module_of
from tests.test_structure import library

LIBERO = "examples.Libero.custom_data_config:LiberoDataConfig"


def test_every_source_that_can_change_an_answer_is_hashed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = source_files()
    for name in (
        "gr00t/quantization/calibration/observers.py",
        "gr00t/quantization/kernels/native/isa/avx2.hpp",
        "gr00t/model/policy.py",
        "gr00t/data/transform/video.py",
        "gr00t/eval/rollout/episode.py",
        "gr00t/eval/session/servers.py",
        "gr00t/experiment/robots.py",
        "gr00t/libero/simulator/worker.py",
        "gr00t/serving/server.py",
        "gr00t/cli/serve.py",
        "gr00t/cli/serving/server.py",
    ):
        assert name in found
    for folder in (
        "gr00t/cli/inspection",
        "gr00t/cli/training",
        "gr00t/eval/statistics",
        "gr00t/eval/report",
        "gr00t/libero/datagen",
        "gr00t/training",
    ):
        assert list((identity.PACKAGE.parent / folder).glob("*.py"))
        assert not [name for name in found if name.startswith(folder)]

    assert {name for name in found if name.startswith("gr00t/cli/") and "/serving/" not in name} == {
        "gr00t/cli/serve.py"
    }

    package = tmp_path / "gr00t"
    (package / "quantization").mkdir(parents=True)
    (package / "quantization" / "scales.py").write_text("FACTOR = 1.0\n")
    (package / "native.hpp").write_text("// 1\n")
    monkeypatch.setattr(identity, "PACKAGE", package)

    def now() -> str:
        return digest(source_files())

    hashes = [now(), now()]
    for path in (package / "quantization" / "scales.py", package / "native.hpp"):
        path.write_text(path.read_text().replace("1", "1.5"))
        hashes.append(now())
    (package / "more.py").touch()
    hashes.append(now())
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_nothing_that_is_hashed_needs_what_is_left_out_but_to_count() -> None:
    found = source_files()
    sources = [(name, (REPO / name).read_text()) for name in found if name.endswith(".py")]
    everything = [(path, text) for path, text in library() if path.startswith("gr00t/")]
    known = {module_of(name) for name, _ in sources}
    graph = imports(everything)
    needed = {
        (name, other)
        for name, _ in sources
        if not name.startswith("gr00t/cli/")
        for other in graph[module_of(name)] - known
    }
    counts = {"gr00t.eval.report", "gr00t.eval.statistics"}
    assert needed == {
        *(("gr00t/eval/session/session.py", other) for other in counts),
        # How many episodes are played may depend on the statistics; what each of them is does not.
        *(
            ("gr00t/eval/session/until_decided.py", f"gr00t.eval.statistics.{name}")
            for name in ("pairs", "runs", "sequential")
        ),
    }


def test_a_folder_is_known_by_names_and_contents_of_its_files(tmp_path: Path) -> None:
    assert folder_hash(tmp_path) is None
    (tmp_path / "experiment_cfg").mkdir()
    (tmp_path / "experiment_cfg" / "metadata.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(5_000_000))
    before = folder_hash(tmp_path)
    (tmp_path / "README.md").write_text("read me")
    (tmp_path / ".cache").write_text("hidden")
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500" / "model.safetensors").touch()
    assert folder_hash(tmp_path) == before
    seen = {before}
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(4_999_999)
        file.write(b"\1")
    seen.add(folder_hash(tmp_path))
    (tmp_path / "experiment_cfg" / "metadata.json").write_text("{ }")
    seen.add(folder_hash(tmp_path))
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    seen.add(folder_hash(tmp_path))
    assert len(seen) == 4


def test_what_is_known_of_a_file_is_taken_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "experiment_cfg/metadata.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    whole = folder_hash(tmp_path)
    hashes = {name: hash_file(tmp_path / name) for name in ("b.json", "experiment_cfg/metadata.json")}
    for name in hashes:
        (tmp_path / name).write_text("written over since it was hashed")
    assert folder_hash(tmp_path) != whole
    assert folder_hash(tmp_path, known={**hashes, "gone.json": "0"}) == whole
    (tmp_path / "a.json").write_text("read")
    assert folder_hash(tmp_path, known=hashes) != whole


def test_a_data_configuration_is_known_by_its_pipeline_and_not_by_its_name() -> None:
    config = load_data_config(LIBERO)
    assert config_hash(config) == config_hash(load_data_config(LIBERO))
    others = {}
    for name, value in {
        "image_crop": 0.5,
        "image_size": 196,
        "state_keys": config.state_keys[:-1],
        "action_normalization_modes": dict.fromkeys(config.action_keys, "mean_std"),
        "action_indices": list(range(8)),
        "language_keys": ["annotation.task"],
    }.items():
        # The same name in the same place.
        others[name] = type(
            "LiberoDataConfig", (type(config),), {name: value, "__module__": type(config).__module__}
        )
    hashes = {name: config_hash(cls()) for name, cls in others.items()}
    assert len({config_hash(config), *hashes.values()}) == 7, hashes


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("so100", "ae473afaecb68592"),
        ("unitree_g1", "da900e6671958d5e"),
        ("oxe_droid", "c16c171d14f4c635"),
        ("fourier_gr1_arms_only", "a732a8368b72ecc5"),
        ("bimanual_panda_gripper", "0c9f491522c236ca"),
        # By its content and its two files, which may be edited: change it then.
        ("examples.Libero.demo_data_config:DemoDataConfig", "e7f4e95f49a9089c"),
    ],
)
def test_runs_that_an_earlier_version_began_are_known_by_their_pipeline(name: str, told: str) -> None:
    # Oracle: what version 0.1.0 wrote into the state of trainings, and its servers told evaluations.
    assert config_hash(load_data_config(name)) == told


def test_a_data_configuration_is_known_by_the_file_that_defines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pipeline looks the same; what its step does is not.
    text = (
        "from gr00t.data.transform.base import ModalityTransform\n"
        "from gr00t.experiment.data_config import StandardDataConfig\n"
        "class Brighter(ModalityTransform):\n"
        "    def apply(self, data):\n        return {key: value * 1.5 for key, value in data.items()}\n"
        "class Mine(StandardDataConfig):\n"
        "    video_keys, state_keys, action_keys = ['video.a'], ['state.x'], ['action.x']\n"
        "    def transform(self):\n"
        "        found = super().transform()\n"
        "        found.transforms.insert(0, Brighter(apply_to=['video.a']))\n"
        "        return found\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    hashes = []
    for factor in ("1.5", "1.5", "1.7"):
        (tmp_path / "my_config.py").write_text(text.replace("1.5", factor))
        sys.modules.pop("my_config", None)
        importlib.invalidate_caches()
        hashes.append(config_hash(load_data_config("my_config:Mine")))
    sys.modules.pop("my_config", None)
    assert hashes[0] == hashes[1] != hashes[2]


def test_whatever_a_step_holds_is_plain_and_says_nothing_of_where_it_lies() -> None:
    class Held:
        def __init__(self) -> None:
            self.table, self.made = np.arange(2000.0), object()

    first, second = Held(), Held()
    assert digest(identity._plain(first)) == digest(identity._plain(second))
    second.table[1000] = 7
    assert digest(identity._plain(first)) != digest(identity._plain(second))
    assert identity._plain({"b": {2, 1}, "a": (np.float32(0.5), np.mean)}) == {
        "b": ["1", "2"],
        "a": [0.5, "numpy.mean"],
    }


def test_a_server_tells_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = load_data_config(LIBERO)
    told = served_identity(tmp_path, config, None, "cuda:1")
    assert told["device"] == "cuda"
    assert told["tokenizer"] is None
    assert told["model"] == folder_hash(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    beside = served_identity(tmp_path, config, str(tmp_path), "cpu")
    assert beside["tokenizer"] == folder_hash(tmp_path, ())
    assert {name for name in told if told[name] != beside[name]} == {"device", "tokenizer", "model"}
