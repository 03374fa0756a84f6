"""Recording before quantizing, and a folder of packs that knows whether its calibration came to an end."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from gr00t.quantization import (
    DuQuantConfig,
    DuQuantLinear,
    DuQuantReport,
    enable_duquant_if_configured,
    plan,
    quantize_,
)
from gr00t.quantization.calibration.record import (
    UnfinishedCalibrationError,
    read_record,
    write_record,
)
from gr00t.quantization.calibration.recording import record_inputs
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.numerics.statistics import InputRecorder, InputStatistics


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Loop(nn.Module):
    """Calls one layer four times a request with louder and louder inputs, another once, a third never."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(32, 32, bias=False).requires_grad_(False)
        self.last = nn.Linear(32, 16).requires_grad_(False)
        self.idle = nn.Linear(32, 32)
        self.proj.weight.copy_(normal(32, 32) / 8)
        self.last.weight.copy_(normal(16, 32, seed=1) / 8)
        self.last.bias.zero_()
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in range(4):
            self.inputs.append(x)
            x = self.proj(x) * (1 + step)
        return self.last(x)


def layers_of(model: Loop, *names: str) -> dict[str, nn.Linear]:
    return {name: getattr(model, name) for name in names}


# Recording


def test_every_call_of_every_request_is_recorded_as_a_recorder_of_its_own_would():
    """Oracle: an InputRecorder that is handed the very tensors, in order."""
    model = Loop()
    with torch.inference_mode(), record_inputs(model, layers_of(model, "proj", "last")) as recording:
        answers = [model(normal(5, 32, seed=request)) for request in range(3)]
    assert recording.requests == 3
    expected = InputRecorder(32)
    assert len(model.inputs) == 12
    for x in model.inputs:
        expected.observe(x)
    found = recording.statistics()
    assert list(found) == ["proj", "last"]
    assert torch.equal(found["proj"].peak, expected.result().peak)
    assert torch.equal(found["proj"].sample, expected.result().sample)
    assert all(torch.equal(model(normal(5, 32, seed=i)), answers[i]) for i in range(3))


def test_nothing_is_recorded_after_the_context_not_even_after_an_error():
    model = Loop()
    with (
        pytest.raises(RuntimeError, match="cannot be multiplied"),
        record_inputs(model, layers_of(model, "proj", "last")) as recording,
    ):
        model(torch.cat([model(normal(5, 32)), normal(5, 3)], dim=1))
    peak = recording.statistics()["proj"].peak.clone()
    model(100 * normal(5, 32))
    assert recording.requests == 1
    assert torch.equal(recording.statistics()["proj"].peak, peak)
    assert not model._forward_hooks
    assert not model.proj._forward_pre_hooks


def test_a_layer_that_is_never_called_is_an_error_that_names_it():
    model = Loop()
    with record_inputs(model, layers_of(model, "proj", "idle")) as recording:
        model(normal(5, 32))
    with pytest.raises(
        ValueError,
        match=r"^1 of 2 selected layers were never called in 1 requests: idle; leave them out with EXCLUDE$",
    ):
        recording.statistics()


def finite(request: int) -> torch.Tensor:
    return normal(5, 32, seed=request)


@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.parametrize("value", [torch.inf, torch.nan, 1e30, 1e7, 1e3])
def test_a_request_far_from_the_others_leaves_no_trace_wherever_it_comes(place, value, log):
    """Oracle: the recording of the other requests alone, bit for bit."""
    model, alone = Loop(), Loop()
    requests = [finite(i) for i in range(4)]
    with record_inputs(alone, layers_of(alone, "proj", "last")) as expected:
        for x in requests:
            alone(x)
    bad = finite(9)
    bad[2, 7] = value
    with record_inputs(model, layers_of(model, "proj", "last")) as recording:
        for x in [*requests[:place], bad, *requests[place:]]:
            model(x)
    assert (recording.requests, recording.left_out) == (4, 1)
    for name, found in recording.statistics().items():
        assert torch.equal(found.peak, expected.statistics()[name].peak)
        assert torch.equal(found.sample, expected.statistics()[name].sample)
    assert [line for line in log.messages if "Calibration: request" in line]


def test_where_all_requests_are_left_out_there_are_no_statistics():
    model = Loop()
    with record_inputs(model, layers_of(model, "proj", "last")) as recording:
        for _ in range(3):
            model(torch.full((5, 32), torch.inf))
    with pytest.raises(
        ValueError, match=r"^all 3 requests were left out: the inputs of the layers are not fin"
    ):
        recording.statistics()


def test_what_a_failed_request_was_called_with_is_forgotten():
    model, alone = Loop(), Loop()
    for recorded in (model, alone):
        with record_inputs(recorded, layers_of(recorded, "proj")) as recording:
            if recorded is model:
                recorded.last, last = None, recorded.last
                with pytest.raises(TypeError):
                    recorded(finite(7))
                recorded.last = last
            recorded(finite(1))
        recorded.found = recording.statistics()["proj"]
    assert torch.equal(model.found.peak, alone.found.peak)


# The folder


def settings(folder: Path, **others: str) -> dict[str, str]:
    chosen = {"LAYERS": "proj,last", "CALIB_STEPS": "2", "PACKDIR": str(folder), **others}
    return {f"GR00T_DUQUANT_{name}": text for name, text in chosen.items()}


def start(folder: Path, **others: str) -> tuple[Loop, DuQuantReport]:
    """Quantize a fresh model as a server does."""
    model = Loop()
    report = enable_duquant_if_configured(model, settings(folder, **others))
    assert report is not None
    return model, report


def calibrated(folder: Path, *, complete: bool = True) -> Loop:
    model = Loop()
    config = DuQuantConfig.from_environ(settings(folder))
    assert config is not None
    plans = plan(model, config.scheme, config.layer_filter)
    requests = [normal(5, 32, seed=request) for request in range(4)]
    layers = {layer.name: layer.linear for layer in plans if layer.spec is not None}
    with record_inputs(model, layers) as recording:
        for x in requests:
            model(x)
    write_record(folder, {"date": "today", "requests": 4, "observations": "numbers"}, complete=False)
    statistics, runtime = recording.statistics(), config.runtime
    quantize_(model, config.scheme, config.layer_filter, statistics=statistics, runtime=runtime)
    for x in requests[:2]:
        model(x)
    if complete:
        write_record(folder, {"date": "today", "requests": 4, "observations": "numbers"}, complete=True)
    return model


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_a_fresh_model_gets_transforms_codes_and_static_scales_back(tmp_path, log):
    first = calibrated(tmp_path / "packs")
    second, report = start(tmp_path / "packs")
    assert (report.packed, report.informed, report.to_dict()["calibrating"]) == (2, 2, False)
    assert report.to_dict()["layers_informed"] == 2
    x = normal(7, 32, seed=9)
    assert torch.equal(first(x), second(x))
    line = "calibrated today by 4 requests (numbers); 2 of 2 layers use the statistics"
    assert f"[GR00T-DUQUANT] PACKDIR {tmp_path / 'packs'}: {line}" in log.messages


def test_other_settings_keep_the_statistics_and_say_what_is_missing(tmp_path, log):
    calibrated(tmp_path)
    _, report = start(tmp_path, BLOCK="8")
    assert (report.packed, report.informed) == (0, 2)
    warnings = [record.message for record in log.records if record.levelno == logging.WARNING]
    assert warnings == [
        "[GR00T-DUQUANT] PACKDIR was calibrated for other weights or settings: 0 of 2 layers lack "
        "statistics, 2 lack static scales. Run scripts/calibrate.py with these settings"
    ]


def test_damaged_packs_are_named_and_not_taken_for_those_of_other_settings(tmp_path, log):
    calibrated(tmp_path)
    path = tmp_path / "proj.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    _, report = start(tmp_path)
    assert (report.packed, report.informed) == (1, 1)
    assert [record.message for record in log.records if record.levelno == logging.WARNING][1] == (
        "[GR00T-DUQUANT] PACKDIR has packs that are damaged or cannot be read (proj): 1 of 2 layers lack "
        "statistics, 1 lack static scales. Run scripts/calibrate.py with these settings"
    )
    log.clear()
    start(tmp_path, BLOCK="8")
    assert (
        "PACKDIR has packs that are damaged or cannot be read (proj) and was calibrated for oth" in log.text
    )


def test_a_lost_pack_is_rebuilt_and_counted(tmp_path, log):
    calibrated(tmp_path)
    (tmp_path / "proj.safetensors").unlink()
    _, report = start(tmp_path)
    assert report.informed == 1
    assert "1 of 2 layers lack statistics, 1 lack static scales" in log.text


def test_no_model_is_quantized_from_a_calibration_that_has_not_ended(tmp_path):
    calibrated(tmp_path, complete=False)
    model = Loop()
    expected = (
        f"PACKDIR {tmp_path}: its calibration has not ended, or still runs; run scripts/calibrate.py to its "
        f"end, or delete {tmp_path / 'calibration.json'} to use the packs as they are"
    )
    with pytest.raises(UnfinishedCalibrationError) as caught:
        enable_duquant_if_configured(model, settings(tmp_path))
    assert str(caught.value) == expected
    assert type(model.proj) is nn.Linear
    (tmp_path / "calibration.json").unlink()
    assert isinstance(start(tmp_path)[0].proj, DuQuantLinear)


def test_the_hash_follows_the_scales_that_served_requests_fix(tmp_path):
    model, report = start(tmp_path)
    before = report.to_dict()["layers_sha256"]
    for seed in range(2):
        model(normal(5, 32, seed=seed))
    fixed = report.to_dict()["layers_sha256"]
    assert fixed != before
    assert start(tmp_path)[1].to_dict()["layers_sha256"] == fixed


@pytest.mark.parametrize("how", ["directory", "loop", "dangling"])
def test_something_else_in_place_of_a_record_is_refused(tmp_path, how):
    path = tmp_path / "calibration.json"
    path.mkdir() if how == "directory" else path.symlink_to(path if how == "loop" else "nowhere")
    with pytest.raises(
        UnfinishedCalibrationError, match=r"calibration.json cannot be read \(it is no file\)"
    ):
        read_record(tmp_path)


def test_the_report_tells_what_the_layers_are_and_what_they_were_calibrated_by(tmp_path):
    """What an evaluation is identified by: it stays where nothing changes, and changes where one does."""
    calibrated(tmp_path / "packs")

    def told(**others: str) -> tuple[str, str]:
        found = start(tmp_path / "packs", **others)[1].to_dict()
        return found["layers_sha256"], found["calibration_sha256"]

    first = told()
    assert first == told()
    assert all(len(digest) == 64 for digest in first)
    assert told(ABITS="6")[0] != first[0]
    write_record(tmp_path / "packs", {"date": "tomorrow"}, complete=True)
    calibrated(tmp_path / "packs")
    second = told()
    write_record(tmp_path / "packs", {"date": "tomorrow"}, complete=True)
    assert (told()[0], told()[1] != second[1]) == (second[0], True)
    shutil.rmtree(tmp_path / "packs")
    assert start(tmp_path / "packs")[1].to_dict()["calibration_sha256"] is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"complete": "yes"}', "{}", '{"complete": true, "complete": true}', "[" * 100_000],
)
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(UnfinishedCalibrationError, match=r"run scripts/calibrate\.py to its end"):
        read_record(tmp_path)


def test_a_record_is_plain_json_and_leaves_no_temporary_file(tmp_path):
    folder = tmp_path / "new" / "folder"
    path = write_record(folder, {"date": "d", "layers": 3}, complete=True)
    assert json.loads(path.read_text()) == {"complete": True, "date": "d", "layers": 3}
    assert read_record(folder) == {"complete": True, "date": "d", "layers": 3}
    assert list(folder.iterdir()) == [path]
    assert read_record(tmp_path) is None
    assert read_record(None) is None


def test_reading_a_pack_back_finds_every_difference(tmp_path):
    model = calibrated(tmp_path)
    store = PackStore(tmp_path)
    assert store.holds("proj", model.proj)
    assert not store.holds("last", model.proj)
    assert not store.holds("elsewhere", model.proj)
    assert store.bytes_on_disk("proj") == (tmp_path / "proj.safetensors").stat().st_size
    assert store.bytes_on_disk("elsewhere") == PackStore(None).bytes_on_disk("proj") == 0
    model.proj.act_scale[3] *= 1.5
    assert not store.holds("proj", model.proj)
    model.proj.act_scale[3] /= 1.5
    assert store.holds("proj", model.proj)
    model.proj.spec = dataclasses.replace(model.proj.spec, informed=False)
    assert not store.holds("proj", model.proj)


def test_statistics_given_now_are_used_whatever_the_folder_says(tmp_path):
    """A calibration runs over its own unfinished record."""
    write_record(tmp_path, {}, complete=False)
    model = Loop()
    config = DuQuantConfig.from_environ(settings(tmp_path, LAYERS="last"))
    assert config is not None
    statistics = {"last": InputStatistics(torch.ones(32), torch.ones(32, 32, dtype=torch.bfloat16))}
    report = quantize_(
        model, config.scheme, config.layer_filter, statistics=statistics, runtime=config.runtime
    )
    assert report.informed == 1
