"""Packed float layers. Oracle: `nn.Linear` with the same weight.

On an AMD EPYC of family 25 outputs are equal bit for bit; another processor may sum in another order, so that
outputs are compared up to the last bit of bfloat16, and only what is no sum bit for bit.
"""

from __future__ import annotations

import copy
import io
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from gr00t.model.network import packed_linear
from gr00t.model.network.packed_linear import PackedLinear, pack_linears
from gr00t.quantization import LinearScheme, plan, quantize_
from gr00t.quantization.report import model_bytes
from gr00t.quantization.settings.selection import DuQuantSelectionError

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this processor"
)


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias).bfloat16().requires_grad_(False)


@pytest.mark.parametrize("shape", [(1, 1), (1, 49), (2, 256), (566,), (3, 5, 7)])
@pytest.mark.parametrize(
    ("inputs", "outputs", "bias"), [(1152, 304, True), (97, 33, False), (256, 512, True)]
)
def test_outputs_are_those_of_the_linear(
    shape: tuple[int, ...], inputs: int, outputs: int, bias: bool
) -> None:
    plain = linear(inputs, outputs, bias)
    x = torch.randn(*shape, inputs).bfloat16()
    expected = plain(x)
    found = PackedLinear(plain)(x)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    # Outputs are about one: half a unit in the last place of bfloat16 there is 2^-8.
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-8)


def test_weight_and_bias_can_be_read_bit_for_bit() -> None:
    model = nn.Sequential(linear(97, 33), nn.ReLU(), linear(33, 5, bias=False))
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert pack_linears(model) == 2
    found = model.state_dict()
    assert list(found) == list(expected) == ["0.weight", "0.bias", "2.weight"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(parameter.ndim == 2 for parameter in model.parameters()), "the plain weights are let go"


def test_each_weight_is_let_go_before_the_next_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*(linear(64, 64) for _ in range(5)))
    left = [weakref.ref(layer.weight) for layer in model]
    alive: list[int] = []

    class Counting(PackedLinear):
        def __init__(self, plain: nn.Linear) -> None:
            alive.append(sum(reference() is not None for reference in left))
            super().__init__(plain)

    monkeypatch.setattr(packed_linear, "PackedLinear", Counting)
    pack_linears(model)
    assert alive == [5, 4, 3, 2, 1]
    assert all(reference() is None for reference in left)


def test_a_packed_layer_is_in_the_mode_of_the_linear() -> None:
    model = nn.Sequential(linear(64, 64), linear(64, 64).eval())
    pack_linears(model)
    assert [module.training for module in model] == [True, False]


def test_only_what_keeps_its_numbers_is_packed() -> None:
    class Other(nn.Linear):
        pass

    trained = linear(64, 64).requires_grad_(True)
    model = nn.Sequential(linear(64, 64).float(), trained, Other(64, 64).bfloat16().requires_grad_(False))
    assert pack_linears(model) == 0
    assert [type(module) for module in model] == [nn.Linear, nn.Linear, Other]


def test_a_packed_layer_is_neither_changed_nor_moved() -> None:
    model = nn.Sequential(linear(64, 64))
    state = model.state_dict()
    pack_linears(model)
    changes: list[Callable[[], object]] = [
        lambda: model.load_state_dict(state),
        lambda: model.float(),
        lambda: model.to("meta"),
        lambda: copy.copy(model[0]),
        lambda: copy.deepcopy(model),
        lambda: pickle.dumps(model),
        lambda: torch.save(model, io.BytesIO()),
        lambda: model[0].weight.zero_(),
        lambda: setattr(model[0], "weight", nn.Parameter(torch.zeros(64, 64))),
        lambda: setattr(model[0], "weight", torch.zeros(64, 64)),
    ]
    for change in changes:
        with pytest.raises(RuntimeError, match=r"packed for the processor that serves it: load it anew"):
            change()


def test_an_input_that_does_not_fit_is_refused() -> None:
    packed = PackedLinear(linear(64, 32))
    for x, got in (
        (torch.zeros(4, 32).bfloat16(), r"\(4, 32\) in torch.bfloat16"),
        (torch.zeros(4, 64), r"\(4, 64\) in torch.float32"),
        (torch.zeros(()).bfloat16(), r"\(\) in torch.bfloat16"),
    ):
        with pytest.raises(RuntimeError, match=rf"^expected an input of shape \(..., 64\) .*, got {got}$"):
            packed(x)


@pytest.mark.parametrize("register", ["forward", "forward_pre", "full_backward", "state_dict_post"])
def test_a_layer_with_hooks_stays(register: str) -> None:
    model = nn.Sequential(linear(64, 64), linear(64, 64))
    name = f"register_{register}_hook"
    getattr(model[0], name)(lambda *_: None)
    assert pack_linears(model) == 1
    assert [type(module) for module in model] == [nn.Linear, PackedLinear]


def test_a_packed_model_is_not_quantized() -> None:
    model = nn.Sequential(nn.Sequential(linear(64, 64)), linear(64, 64).float())
    pack_linears(model)
    for ask in (plan, quantize_):
        with pytest.raises(DuQuantSelectionError, match=r"^0\.0 cannot be quantized: this model is packed"):
            ask(model, LinearScheme())


def test_packing_leaves_the_bytes_of_a_model() -> None:
    model = nn.Sequential(linear(1152, 304), linear(97, 33, bias=False), linear(33, 5))
    before = model_bytes(model)
    assert pack_linears(model) == 3
    assert model_bytes(model) == before == 2 * (1152 * 304 + 304 + 97 * 33 + 33 * 5 + 5)
