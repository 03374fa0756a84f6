"""What a groot folder says, and what it must not. Oracle: lerobot's rules, and the text of each refusal."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gr00t.data.dataset import ModalityConfig
from gr00t.data.errors import ObservationError
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.source import open_source
from gr00t.model.lerobot.keys import derived_keys, fitted_keys
from gr00t.model.lerobot.observation import from_lerobot
from gr00t.model.lerobot.rules import GrootRules, read_rules
from gr00t.model.lerobot.serving import groot_serving
from tests.model.lerobot.groot_folder import statistics, write_groot_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_groot_folder(folder / "groot", folder / "base")
    return folder / "base"


def write(tmp_path: Path, base: Path, **options: Any) -> Path:
    return write_groot_folder(tmp_path / "groot", base, weights=False, **options)


def rules_of(folder: Path) -> GrootRules:
    rules = read_rules(folder)
    assert rules is not None
    return rules


@pytest.mark.parametrize(
    ("tag", "number"),
    [
        ("new_embodiment", 31),
        ("oxe_droid", 17),
        ("agibot_genie1", 26),
        ("gr1", 24),
        ("so100", 2),
        ("unitree_g1", 3),
        ("my_robot", 0),
    ],
)
def test_the_embodiment_chooses_the_weights_as_in_lerobot(
    tmp_path: Path, base: Path, tag: str, number: int
) -> None:
    folder = write(tmp_path, base, config={"embodiment_tag": tag})
    _edit("policy_preprocessor.json", lambda c: c["steps"][2]["config"].pop("embodiment_mapping"))(folder)
    assert rules_of(folder).embodiment == number
    serving = groot_serving(open_source(folder))
    assert serving is not None
    [last] = serving.transform().transforms[-1:]
    assert [*last.embodiment_tag_mapping.values()] == [number]


def test_the_folders_own_numbers_of_embodiments_count(tmp_path: Path, base: Path) -> None:
    numbers = {"new_embodiment": 31, "mine": 7}
    pack = {"embodiment_mapping": numbers}
    folder = write(tmp_path, base, config={"embodiment_tag": "mine"}, pack=pack)
    assert rules_of(folder).embodiment == 7


def test_the_cameras_are_sorted_and_one_may_have_no_name(tmp_path: Path, base: Path) -> None:
    assert rules_of(write(tmp_path, base)).cameras == ("observation.images.front", "observation.images.wrist")
    assert rules_of(tmp_path / "groot").resolutions == ((64, 48), (80, 60))
    one = {"observation.image": {"type": "VISUAL", "shape": [3, 96, 96]}, **_state(8)}
    folder = write_groot_folder(tmp_path / "one", base, weights=False, config={"input_features": one})
    assert derived_keys(rules_of(folder)).cameras == ("video.image",)
    alike = {f"observation.images{name}": one["observation.image"] for name in (".top", "_top")} | _state(8)
    folder = write_groot_folder(tmp_path / "two", base, weights=False, config={"input_features": alike})
    assert derived_keys(rules_of(folder)).cameras == ("video.top", "video.images_top")


def _state(width: int) -> dict[str, Any]:
    return {"observation.state": {"type": "STATE", "shape": [width]}}


@pytest.mark.parametrize(("chunk", "horizon"), [(50, 16), (16, 16), (8, 8), (1, 1)])
def test_the_horizon_is_the_chunk_up_to_sixteen(tmp_path: Path, base: Path, chunk: int, horizon: int) -> None:
    rules = rules_of(write(tmp_path, base, config={"chunk_size": chunk}))
    assert rules.horizon == horizon
    assert derived_keys(rules).modality_config()["action"].delta_indices == [*range(horizon)]


def test_statistics_of_another_length_are_cut_or_filled_as_lerobot_does_it(
    tmp_path: Path, base: Path
) -> None:
    stats = statistics()
    low, high = stats["observation.state.min"], stats["observation.state.max"]
    stats |= {"observation.state.min": low[:6].double(), "observation.state.max": high[:6].double()}
    stats |= {"action.min": stats["action.min"][:5], "action.max": stats["action.max"][:5]}
    rules = rules_of(write(tmp_path, base, stats=stats))
    assert rules.state.low == (*low[:6].tolist(), 0.0, 0.0)
    assert rules.state.high == (*high[:6].tolist(), 1.0, 1.0)
    assert rules.action.low[5:] == rules.action.high[5:] == (0.0, 0.0)


def test_an_exported_model_keeps_the_rules_to_the_last_bit(tmp_path: Path, base: Path) -> None:
    rules = rules_of(write(tmp_path, base, rename={"observation.images.top": "observation.images.front"}))
    (tmp_path / "out").mkdir()
    rules.write(tmp_path / "out")
    assert read_rules(tmp_path / "out") == rules
    assert rules.renamed == (("observation.images.top", "observation.images.front"),)


def test_a_key_that_comes_under_both_of_its_names_is_refused(tmp_path: Path, base: Path) -> None:
    rules = rules_of(write(tmp_path, base, rename={"observation.images.top": "observation.images.front"}))
    frame = np.zeros((48, 64, 3), np.uint8)
    both = {"observation.images.top": frame, "observation.images.front": frame}
    with pytest.raises(
        ObservationError, match=r"'observation\.images\.front' came twice, once as 'observation"
    ):
        from_lerobot(both, rules, derived_keys(rules))


def _edit(file: str, change: Any) -> Any:
    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


def _stats(**changes: Any) -> Any:
    def apply(folder: Path) -> None:
        for file in folder.glob("policy_*.safetensors"):
            tensors = statistics()
            for name, change in changes.items():
                key = name.replace("__", ".")
                if change is None:
                    del tensors[key]
                else:
                    change(tensors[key])
            save_file(tensors, file)

    return apply


def _bounds_as(dtype: torch.dtype, width: int = 7) -> Any:
    def apply(folder: Path) -> None:
        [file] = folder.glob("policy_postprocessor*.safetensors")
        save_file({f"action.{end}": torch.ones(width, dtype=dtype) for end in ("min", "max")}, file)

    return apply


PACK = "policy_preprocessor_step_2_groot_pack_inputs_v3.safetensors"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (
            lambda folder: (folder / "policy_preprocessor.json").unlink(),
            "has no policy_preprocessor.json: lerob",
        ),
        (
            lambda folder: (folder / "policy_postprocessor.json").unlink(),
            "has no policy_postprocessor.json: ",
        ),
        (lambda folder: (folder / PACK).unlink(), f"names {PACK}, which is not in"),
        (lambda folder: (folder / PACK).write_bytes(b"x" * 20), "policy_preprocessor_step_2_groot_pack"),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"][2].pop("state_file")),
            "names no state_file: the policy was saved without statistics of its data",
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"][2].update(state_file="../x.safetensors")),
            "state_file must be a file beside it, got '../x.safetensors'",
        ),
        (
            _edit(
                "policy_preprocessor.json", lambda c: c["steps"].insert(2, {"registry_name": "crop_images"})
            ),
            "the step 'crop_images' is not known here; lerobot 0.4.0 to 0.5.1 write",
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"].pop(2)),
            "expected one step 'groot_pack_inputs_v3', got rename_observations_processor",
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"][2]["config"].update(language_key="text")),
            'groot_pack_inputs_v3.language_key = "text" is not supported',
        ),
        (
            _edit(
                "policy_preprocessor.json", lambda c: c["steps"][2]["config"].update(normalize_min_max=False)
            ),
            "groot_pack_inputs_v3.normalize_min_max = false is not supported; supported: true",
        ),
        (
            _edit(
                "policy_postprocessor.json", lambda c: c["steps"][0]["config"].update(normalize_min_max=False)
            ),
            "groot_action_unpack_unnormalize_v1.normalize_min_max = false is not supported",
        ),
        (
            _edit("policy_postprocessor.json", lambda c: c["steps"][0]["config"].update(env_action_dim=6)),
            "env_action_dim = 6, but config.json: output_features.action.shape is 7",
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"][2]["config"].update(normalize_mean=True)),
            "groot_pack_inputs_v3.normalize_mean is not known here; did you mean normalize_min_max?",
        ),
        (
            _edit(
                "policy_preprocessor.json", lambda c: c["steps"][5]["config"].update(float_dtype="float16")
            ),
            'device_processor.float_dtype = "float16" is not supported',
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"].append(c["steps"].pop(0))),
            "expected the steps once each, as rename_observations_processor, to_batch_processor",
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"].insert(0, c["steps"][0])),
            "got rename_observations_processor, rename_observations_processor, to_batch_processor",
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"][2].update(state_file="")),
            "state_file must be a file beside it, got ''",
        ),
        (
            _edit("policy_preprocessor.json", lambda c: c["steps"][2].update(state_file="a" * 5000)),
            "aaaa: cannot be read (File name too long)",
        ),
        (_bounds_as(torch.bool), "action.min: expected numbers, got dtype BOOL"),
        (lambda folder: _bounds_as(torch.float32, width=0)(folder), "action: expected numbers, got none"),
        (_edit("config.json", lambda c: c.update(base_model_path="")), "base_model_path must be a folder or"),
        (_edit("config.json", lambda c: c.update(base_model_path=None)), "a folder or a hub id, got None"),
        (
            _edit("config.json", lambda c: c.update(base_model_path="~nobody-at-all/x")),
            "from ~nobody-at-all/x",
        ),
        (_edit("config.json", lambda c: c.update(base_model_path="x" * 5000)), "xxx, whose config.json has"),
        (
            lambda folder: save_file({}, folder / "adapter_model.safetensors"),
            "and a whole checkpoint (model.s",
        ),
        (
            _edit("config.json", lambda c: c.update(embodiment_tag="gr1")),
            "embodiment_tag = 'gr1', but",
        ),
        (
            _edit("config.json", lambda c: c.update(max_state_dim=4)),
            "observation.state has 8 numbers, the model",
        ),
        (_edit("config.json", lambda c: c.update(chunk_size=0)), "chunk_size must be an integer >= 1, got 0"),
        (
            _edit("config.json", lambda c: c.update(input_features=_state(8))),
            "has no camera: no observation.im",
        ),
        (
            _edit("config.json", lambda c: c["input_features"].pop("observation.state")),
            "input_features has no observation.state, only",
        ),
        (
            _edit("config.json", lambda c: c.update(output_features={})),
            "output_features has no action, only no",
        ),
        (_stats(action__max=None), "has no action.max, only"),
        (_stats(action__max=lambda t: t.fill_(float("nan"))), "expected finite numbers, got"),
        (_stats(action__min=lambda t: t.fill_(float("-inf"))), "expected finite numbers, got"),
        (_stats(observation__state__max=lambda t: t.fill_(-99)), "min is larger than max at [0]"),
    ],
)
def test_a_folder_that_does_not_say_all_is_refused(
    tmp_path: Path, base: Path, damage: Any, text: str
) -> None:
    folder = write(tmp_path, base)
    damage(folder)
    with pytest.raises(CheckpointError) as error:
        groot_serving(open_source(folder))
    assert text in str(error.value)
    assert str(folder) in str(error.value)


def test_another_embodiment_than_the_folders_is_refused(tmp_path: Path, base: Path) -> None:
    source = open_source(write(tmp_path, base, config={"embodiment_tag": "so100"}))
    assert groot_serving(source, "so100") is not None
    with pytest.raises(
        CheckpointError, match=r"was trained as 'so100', not 'gr1'; leave --embodiment-tag out"
    ):
        groot_serving(source, "gr1")


def _modalities(video: list[str], state: list[str], action: list[str], steps: int = 16) -> dict[str, Any]:
    def keys(names: list[str], indices: list[int]) -> ModalityConfig:
        return ModalityConfig(delta_indices=indices, modality_keys=names)

    return {
        "video": keys(video, [0]),
        "state": keys(state, [0]),
        "action": keys(action, [*range(steps)]),
        "language": keys(["annotation.human.task_description"], [0]),
    }


CAMERAS = ["video.wrist", "video.front"]


@pytest.mark.parametrize(
    ("modalities", "text"),
    [
        (_modalities(["video.front"], ["state.a"], ["action.a"]), "it has 1 cameras, the policy 2"),
        (
            _modalities(CAMERAS, ["state.arm", "state.hand"], ["action.a"]),
            "its 2 state keys cannot be told apart among 8 numbers; put the modality.json of the data set",
        ),
        (
            _modalities(CAMERAS, ["state.a"], ["action.x", "action.gripper"]),
            "its 2 action keys cannot be told apart among 7 numbers",
        ),
        (
            _modalities(CAMERAS, ["state.a"], [f"action.{i}" for i in range(9)]),
            "it has 9 action keys, the policy 7 numbers",
        ),
        (_modalities(CAMERAS, ["state.a"], ["action.a"], 32), "the policy predicts 0 to 15"),
    ],
)
def test_a_data_config_that_does_not_fit_is_refused_with_both(
    tmp_path: Path, base: Path, modalities: dict[str, Any], text: str
) -> None:
    folder = write(tmp_path, base)
    with pytest.raises(CheckpointError) as error:
        fitted_keys(rules_of(folder), modalities, folder)
    told = str(error.value)
    assert text in told
    assert (
        "the folder has observation.images.front, observation.images.wrist; 8 numbers of state, 7 of" in told
    )
    assert f"the data config has {', '.join(modalities['video'].modality_keys)}" in told


def test_cameras_are_found_by_name_before_their_order(
    tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, base)
    rules = rules_of(folder)
    with caplog.at_level(logging.WARNING):
        named = fitted_keys(rules, _modalities(CAMERAS, ["state.a"], ["action.a"]), folder)
    assert named.cameras == ("video.front", "video.wrist")
    assert not caplog.records
    ordered = fitted_keys(rules, _modalities(["video.a", "video.b"], ["state.a"], ["action.a"]), folder)
    assert ordered.cameras == ("video.a", "video.b")
    assert "video.a is observation.images.front; video.b is observation.images.wrist; check" in caplog.text


def test_a_modality_json_in_the_folder_says_the_widths(tmp_path: Path, base: Path) -> None:
    folder = write(tmp_path, base)
    spans = {"arm": {"start": 0, "end": 5}, "hand": {"start": 5, "end": 8}}
    acts = {"arm": {"start": 0, "end": 6}, "hand": {"start": 6, "end": 7}}
    (folder / "modality.json").write_text(json.dumps({"state": spans, "action": acts}))
    wanted = _modalities(CAMERAS, ["state.arm", "state.hand"], ["action.arm", "action.hand"])
    keys = fitted_keys(rules_of(folder), wanted, folder)
    assert keys.state == {"state.arm": 5, "state.hand": 3}
    assert keys.action == {"action.arm": 6, "action.hand": 1}
    acts["hand"] = {"start": 5, "end": 7}
    (folder / "modality.json").write_text(json.dumps({"state": spans, "action": acts}))
    with pytest.raises(
        CheckpointError, match=r"action\.arm 0 to 6, action\.hand 5 to 7; expected 0 to 7, one"
    ):
        fitted_keys(rules_of(folder), wanted, folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_statistics_of_any_kind_of_numbers_are_read(tmp_path: Path, base: Path, dtype: torch.dtype) -> None:
    stats = {name: (value * 10).to(dtype) for name, value in statistics().items()}
    rules = rules_of(write(tmp_path, base, stats=stats))
    assert rules.action.low == tuple(stats["action.min"].float().tolist())


def test_statistics_in_float64_are_read_as_float32(tmp_path: Path, base: Path) -> None:
    stats = statistics()
    stats["action.min"] = torch.full((7,), 0.1, dtype=torch.float64)
    stats["action.max"] = torch.full((7,), 0.3, dtype=torch.float64)
    rules = rules_of(write(tmp_path, base, stats=stats))
    assert rules.action.low[0] == torch.tensor(0.1).item()
