"""quantize_ and plan, called as they cannot be: one clear error, the model as it was. Oracle: the texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from gr00t.quantization import (
    DuQuantConfig,
    DuQuantSelectionError,
    Execution,
    LinearScheme,
    RuntimeOptions,
    plan,
    quantize_,
)
from gr00t.quantization.settings.environment import to_environ

PER_TOKEN = LinearScheme(calibration_steps=0)
both = pytest.mark.parametrize("call", [plan, quantize_])


def two() -> nn.Sequential:
    return nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 16)).requires_grad_(False)


class Frozen(nn.Module):
    """A module of somebody who wants nothing set any more."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __setattr__(self, name: str, value: object) -> None:
        if "inner" in self.__dict__.get("_modules", {}):
            raise AttributeError("it is frozen")
        super().__setattr__(name, value)


# The model


@both
def test_a_model_that_is_a_linear_itself_is_refused(call: Callable[..., Any]) -> None:
    model = nn.Linear(32, 16)
    with pytest.raises(
        DuQuantSelectionError, match=r"is itself a Linear.*: wrap it, nn\.Sequential\(model\)"
    ):
        call(model, PER_TOKEN)
    assert not list(model.children())


def test_where_one_layer_cannot_be_replaced_those_before_it_are_put_back() -> None:
    """Oracle: the modules of before, by identity."""
    model = nn.Sequential(nn.Linear(32, 32), Frozen(nn.Linear(32, 32)), nn.Linear(32, 16))
    before = dict(model.named_modules())
    with pytest.raises(AttributeError, match="it is frozen"):
        quantize_(model, PER_TOKEN)
    after = dict(model.named_modules())
    assert after.keys() == before.keys()
    assert all(after[name] is module for name, module in before.items())


# How it runs


def test_execution_as_text_is_the_execution_of_that_name() -> None:
    model = two()
    runtime = RuntimeOptions(execution="integer")
    assert runtime.execution is Execution.INTEGER
    with pytest.raises(ValueError, match="EXECUTION=integer needs weights and activations of 2 to 8 bits"):
        quantize_(model, LinearScheme(activation=None), runtime=runtime)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"execution": "intger"}, r"^execution='intger': did you mean integer\?$"),
        ({"execution": None}, "^execution=None: known: auto, fake, integer$"),
        ({"precache_weights": "no"}, "^precache_weights='no': expected true or false$"),
        ({"pack_dir": 3}, "^pack_dir=3: expected the path of a folder, or None$"),
        ({"kernels": True}, "^kernels=True: expected environment variables, as os.environ, or None$"),
    ],
)
def test_a_way_to_run_that_is_none_cannot_be_made(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RuntimeOptions(**values)


def test_a_folder_of_packs_may_be_text_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    runtime = RuntimeOptions(pack_dir="~/packs")
    assert runtime.pack_dir == tmp_path / "packs"
    quantize_(two(), PER_TOKEN, runtime=runtime)
    assert quantize_(two(), PER_TOKEN, runtime=runtime).packed == 0  # of other weights
    config = DuQuantConfig.from_environ(to_environ({"PACKDIR": "~/packs", "WBITS_DEFAULT": "4"}))
    assert config is not None
    assert config.pack_dir == tmp_path / "packs"
    assert len(list(runtime.pack_dir.iterdir())) > 0
