"""quantize_ and plan, called as they cannot be: one clear error, the model as it was. Oracle: the texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from gr00t.quantization import DuQuantSelectionError, LinearScheme, plan, quantize_

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
