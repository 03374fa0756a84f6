"""What is kept of weights that change. Oracle: the same model with the same change, that keeps nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.network.kept import KeptWhileSame
from gr00t.model.serving_form import settle_weights
from gr00t.quantization import LinearScheme, quantize_
from tests.model.parity_set import PARITY, ParitySet


def timed(model: GR00T_N1_5) -> list[nn.Parameter]:
    head = model.action_head
    norms = [layer.attn_norm for layer in head.layers]
    return [held for module in (head.time_encoder, *norms, head.out_norm) for held in module.parameters()]


def load(model: GR00T_N1_5, assign: bool = False) -> None:
    changed = {id(parameter) for parameter in timed(model)}
    state = model.state_dict(keep_vars=True)
    loaded = {name: 0.5 * held.detach() if id(held) in changed else held for name, held in state.items()}
    model.load_state_dict(loaded, assign=assign)


def halve(model: GR00T_N1_5) -> None:
    with torch.no_grad():
        timed(model)[0].mul_(0.5)


def halve_in_inference_mode(model: GR00T_N1_5) -> None:
    with torch.inference_mode():
        timed(model)[-1].mul_(0.5)


def round_by_moving(model: GR00T_N1_5) -> None:
    model.bfloat16().float()


def quantize(model: GR00T_N1_5) -> None:
    timed_layers = ("time_encoder", "norm.linear")
    quantize_(model.action_head, LinearScheme(), lambda _, name: any(part in name for part in timed_layers))


@pytest.mark.parametrize(
    "change",
    [load, lambda model: load(model, assign=True), halve, halve_in_inference_mode, round_by_moving, quantize],
    ids=["load_state_dict", "assign", "in place", "in inference mode", "moved", "quantized"],
)
def test_a_change_after_the_first_request_changes_the_next(change: Callable[[GR00T_N1_5], None]) -> None:
    tiny = ParitySet.load(PARITY / "tiny_a")

    def act(model: GR00T_N1_5) -> Tensor:
        return model.get_action(tiny.inputs(1), noise=tiny.noise(1))["action_pred"]

    kept, fresh = (GR00T_N1_5.from_pretrained(tiny.folder, torch_dtype=torch.float32) for _ in range(2))
    settle_weights(kept)
    before = act(kept)
    change(kept)
    change(fresh)
    expected = act(fresh)
    assert not torch.equal(expected, before)
    assert torch.equal(act(kept), expected)


def test_a_copy_keeps_nothing() -> None:
    """Its tensors begin to count at zero, as those of the first request did."""
    layer, kept = nn.Linear(2, 2), KeptWhileSame[str]()
    with torch.no_grad():
        kept.results([layer])["answer"] = "old"
        assert kept.results([layer]) == {"answer": "old"}
        layer.weight.zero_()
        other, others = copy.deepcopy((layer, kept))
        assert others.results([other]) == {}


def test_where_changes_cannot_be_seen_nothing_is_kept() -> None:
    layer, kept = nn.Linear(2, 2), KeptWhileSame[str]()
    kept.results([layer])["answer"] = "with its gradient"
    assert kept.results([layer]) == {}
    with torch.inference_mode():
        uncounted = nn.Linear(2, 2)
        kept.results([uncounted])["answer"] = "of tensors without a count"
        assert kept.results([uncounted]) == {}


def test_another_module_with_the_same_weights_is_another() -> None:
    first, second, kept = nn.Linear(2, 2), nn.Linear(2, 2), KeptWhileSame[int]()
    second.weight, second.bias = first.weight, first.bias
    holder = nn.Sequential(first)
    with torch.no_grad():
        kept.results([holder])["answer"] = 1
        holder[0] = second
        assert kept.results([holder]) == {}
