"""What is told and drawn of an allocation. Oracle: the figures that it was made of."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure

from gr00t.eval.allocation.greedy import Choice, allocate, uniform
from gr00t.eval.allocation.outcome import Measured, Outcome, layer_table, page, summary_table
from gr00t.eval.allocation.plot import draw, save

CHOICES = {
    "backbone.q_proj": [Choice(2, 40, 0.02), Choice(4, 80, 0.01), Choice(8, 160, 0.001)],
    "head.up_proj": [Choice(2, 80, 0.4), Choice(4, 160, 0.1), Choice(8, 320, 0.02)],
}
OUTCOME = Outcome(
    name="small",
    budget="360B",
    budget_bytes=360,
    shapes={"backbone.q_proj": (8, 16), "head.up_proj": (16, 16)},
    choices=CHOICES,
    chosen=Measured("allocated", allocate(CHOICES, 360), 0.031),
    uniform=[
        Measured("W4 everywhere", uniform(CHOICES, 4), 0.11),
        Measured("W8 everywhere", uniform(CHOICES, 8), 0.021),
    ],
    facts={"recipe": "recommended"},
    machine="today, here",
)


def test_the_allocation_stands_beside_uniform_bits_in_the_order_of_bytes():
    assert summary_table(OUTCOME).splitlines()[2:] == [
        "| W4 everywhere | 240 | 5.000 | 0.1005 | 0.1100 |",
        "| allocated | 360 | 7.500 | 0.0283 | 0.0310 |",
        "| W8 everywhere | 480 | 10.000 | 0.0200 | 0.0210 |",
    ]


def test_every_layer_has_its_row():
    assert layer_table(OUTCOME).splitlines()[2:] == [
        "| `backbone.q_proj` | 16 -> 8 | 2 | 40 | 0.02000 | 50.0 |",
        "| `head.up_proj` | 16 -> 16 | 8 | 320 | 0.02000 | 50.0 |",
    ]


def test_the_data_hold_every_choice():
    data = json.loads(json.dumps(OUTCOME.to_dict()))
    assert data["chosen"]["measured"] == 0.031
    assert data["weights"] == 16 * 8 + 16 * 16
    assert data["layers"]["head.up_proj"]["choices"][1] == {"bits": 4, "stored": 160, "error": 0.1}
    assert sum(layer["bytes"] for layer in data["layers"].values()) == data["chosen"]["bytes"] == 360


def test_the_page_holds_both_tables_and_the_drawing():
    text = page(OUTCOME)
    assert summary_table(OUTCOME) in text
    assert layer_table(OUTCOME) in text
    assert "](small.png)" in text
    assert "today, here. recipe recommended." in text


def test_the_bars_are_bits_and_shares():
    figure = Figure()
    draw(figure, OUTCOME)
    bits, share = figure.axes
    assert [bar.get_width() for bar in bits.patches] == [2, 8]
    assert [bar.get_width() for bar in share.patches] == pytest.approx([50.0, 50.0])
    assert [label.get_text() for label in bits.get_yticklabels()] == list(CHOICES)
    assert bits.get_ylim()[0] > bits.get_ylim()[1]  # the first layer is at the top


def test_the_drawing_is_a_picture(tmp_path):
    save(tmp_path / "x.partial", OUTCOME)
    assert (tmp_path / "x.partial").read_bytes().startswith(b"\x89PNG")
