"""Oracles: a parser of HTML for what the page asks for and says, and the bytes of the files in it."""

from __future__ import annotations

import base64
import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from gr00t.eval.report import write_report
from gr00t.eval.report.gallery import MOST_SHOWN, galleries
from gr00t.eval.report.markdown import render_markdown
from gr00t.eval.report.page import render_page
from gr00t.eval.report.plots import forest, success_bars
from gr00t.eval.statistics import compare, read_run
from tests.eval.statistics.synthetic_runs import QUANTIZED, W4A8, random_outcomes, solves, write_run

ODD = '<b>"w4a8" & $x_1$ {{ 7 * 7 }}'


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "dt", "dd") else ""

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def addresses(self) -> list[str]:
        names = ("src", "href", "poster", "srcset", "data", "action", "xlink:href")
        return [values[name] for _, values in self.tags for name in names if values.get(name)]


def report(folder: Path, **options: Any) -> Page:
    write_report(folder, **options)
    page = Page((folder / "report.html").read_text())
    assert page.open == []
    return page


@pytest.fixture
def five(tmp_path: Path) -> Path:
    base = random_outcomes(0.9, 1)
    facts = {
        "bf16": {"quantization": {"enabled": False}},
        "w4a8": {"settings": W4A8, "checkpoint": {"sha256": "9f8e7d"}, "quantization": QUANTIZED},
    }
    return write_run(
        tmp_path / "five",
        {
            "bf16": base,
            "w4a8": solves((0, 1), (1, 2)),
            "w4a4": random_outcomes(0.5, 3),
            "replay": random_outcomes(0.6, 4),
            "zero": lambda task, state: False,
        },
        tasks=range(3),
        init_states=range(8),
        kinds={"replay": "replay", "zero": "zero"},
        facts=facts,
        media=True,
    )


def test_the_page_asks_for_nothing_outside_itself(five: Path) -> None:
    page = report(five)
    assert len(page.addresses()) > 40
    assert {address.split(",")[0] for address in page.addresses() if not address.startswith("#")} == {
        "data:image/jpeg;base64",
        "data:video/mp4;base64",
    }
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "base")]
    html = (five / "report.html").read_text()
    assert "url(http" not in html
    assert "@import" not in html


def test_the_same_run_gives_the_same_bytes(five: Path) -> None:
    written = []
    for _ in range(2):
        write_report(five)
        written.append([(five / f"report.{kind}").read_bytes() for kind in ("html", "md", "json")])
    assert written[0] == written[1]
    assert not list(five.glob(".*"))


def test_the_page_says_verdicts_controls_and_configuration(five: Path) -> None:
    text = " ".join(report(five).text.split())
    verdicts = compare([read_run(five)])
    assert str(verdicts.row("w4a8").comparison.judgement) in text
    assert "control: replay" in text
    assert "executed with closed eyes" in text
    assert "422,925,312, 0.28 of 1,522,532,352" in text
    assert "W4 A8 (2)" in text
    assert "settings.LS - 0.5 -" in text
    assert "9f8e7d" in text
    assert "version: mujoco 3.3.2" in text


def test_names_and_instructions_are_text_wherever_they_stand(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "odd",
        {"bf16": solves((0, 0)), "odd": solves((0, 1))},
        media=True,
        language="<script>alert('x')</script> | put",
    )
    found = read_run(folder)
    # A run refuses such a name, which would be one of a file; a page must not rely on that.
    run = dataclasses.replace(
        found,
        plan={
            **found.plan,
            "arms": {ODD if name == "odd" else name: arm for name, arm in found.plan["arms"].items()},
        },
        arms={ODD if name == "odd" else name: facts for name, facts in found.arms.items()},
        records=[
            dataclasses.replace(r, key=r.key._replace(arm=ODD)) if r.key.arm == "odd" else r
            for r in found.records
        ],
    )
    verdicts = compare([run])
    page = Page(render_page(verdicts, [run], folder / "report.html"))
    assert page.open == []
    assert not [tag for tag, _ in page.tags if tag in ("script", "b")]
    assert page.text.count(ODD) > 10
    # Neither markup nor mathematics in the plots.
    drawn = ElementTree.fromstring(forest(verdicts, ODD))
    assert f"percentage points, {ODD} minus bf16" in "".join(drawn.itertext())
    assert "{{ 7 * 7 }}" in page.text
    markdown = render_markdown(verdicts, [run])
    assert "<script>" not in markdown
    assert r"\<script\>alert('x')\</script\> \| put" in markdown


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"bf16": solves()}, "1 arm, 2 tasks, 8 episodes per arm."),
        ({"bf16": lambda t, s: False, "w4a8": lambda t, s: False}, "w4a8 solves 0.0 % of 8 episodes"),
        ({"bf16": solves(), "w4a8": lambda t, s: None}, "nothing to compare"),
        ({"bf16": solves(), "w4a8": lambda t, s: None if s else True}, "6 of w4a8."),
        ({"bf16": lambda t, s: None}, "Episodes lost to simulator errors"),
        ({"bf16": solves(), "w4a8": solves()}, "0 with bf16"),
    ],
)
def test_edge_cases_have_a_page(tmp_path: Path, arms, said: str) -> None:
    assert said in " ".join(report(write_run(tmp_path / "run", arms)).text.split())


def test_several_suites_are_one_page(tmp_path: Path) -> None:
    for suite in ("libero_spatial", "libero_goal"):
        write_run(tmp_path / suite, {"bf16": solves(), "w4a8": solves((0, 0))}, suite=suite, media=True)
    runs = [read_run(tmp_path / suite) for suite in ("libero_spatial", "libero_goal")]
    page = Page(render_page(compare(runs), runs, tmp_path / "page.html"))
    assert "by suite" in page.text
    assert "95 to 98" in page.text


def test_a_disagreement_shows_both_episodes(five: Path) -> None:
    run = read_run(five)
    found = galleries(compare([run]), [run], five / "report.html")
    assert [gallery.arm for gallery in found] == ["w4a8", "w4a4"]
    verdicts = compare([run])
    for gallery in found:
        comparison = verdicts.row(gallery.arm).comparison
        assert gallery.total == comparison.wins + comparison.losses
        for episode in gallery.shown:
            baseline, arm = episode.sides
            assert (baseline.arm, arm.arm) == ("bf16", gallery.arm)
            assert baseline.success != arm.success
            kept = five / "thumbnails" / arm.arm / f"task{episode.task:02d}_init{episode.init_state:02d}.jpg"
            assert base64.b64decode(arm.picture.split(",")[1]) == kept.read_bytes()
            assert arm.is_embedded


def test_a_disagreement_says_what_else_was_lifted(tmp_path: Path) -> None:
    outcomes = {"bf16": solves(), "w4a8": lambda t, s: False}
    page = report(write_run(tmp_path / "run", outcomes, lifted_wrong="milk_1"))
    assert "failed after 280 steps, lifted milk_1" in page.text


def test_many_disagreements_are_spread_over_tasks_and_cut_short(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        {"bf16": solves(), "w4a8": lambda t, s: False},
        tasks=range(10),
        init_states=range(5),
    )
    run = read_run(folder)
    (gallery,) = galleries(compare([run]), [run], folder / "report.html")
    assert (gallery.total, len(gallery.shown)) == (50, MOST_SHOWN)
    assert [episode.task for episode in gallery.shown[:10]] == list(range(10))


def test_beyond_the_budget_videos_are_linked(five: Path, tmp_path: Path) -> None:
    run = read_run(five)
    page = tmp_path / "else where" / "page.html"
    found = galleries(compare([run]), [run], page, budget=150_000)
    sides = [side for gallery in found for episode in gallery.shown for side in episode.sides]
    inside = sum(len(a) for s in sides for a in (s.picture, s.video) if a and a.startswith("data:"))
    linked = [side.video for side in sides if not side.is_embedded]
    # A video takes 6.7 kB; the 27 bytes before the letters are not counted.
    assert 143_000 < inside < 153_000
    assert linked
    assert all((page.parent / unquote(link)).resolve().is_file() for link in linked)


def test_missing_files_and_files_of_others_are_not_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"bf16": solves(), "w4a8": solves((0, 0))}, media=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    for values in lines:
        values["thumbnail"] = "../secret.jpg" if values["arm"] == "bf16" else "thumbnails/gone.jpg"
    (folder / "episodes.jsonl").write_text("".join(json.dumps(values) + "\n" for values in lines))
    text = report(folder).text
    assert text.count("no picture was kept") == 2
    assert base64.b64encode(b"secret").decode() not in (folder / "report.html").read_text()


def test_plots_are_well_formed_and_take_the_colours_of_the_page(five: Path) -> None:
    verdicts = compare([read_run(five)])
    for plot in (forest(verdicts, "w4a8"), success_bars(verdicts)):
        root = ElementTree.fromstring(plot)
        assert root.get("role") == "img"
        styles = [element.get("style", "") for element in root.iter()]
        assert any("var(--arm-1)" in style for style in styles)
        assert not [style for style in styles if "#0" in style.replace("url(#", "")]
    drawn = "".join(ElementTree.fromstring(forest(verdicts, "w4a8")).itertext())
    comparison = verdicts.row("w4a8").comparison
    assert f"{comparison.wins} won, {comparison.losses} lost of 24" in drawn


def test_the_json_is_the_verdict(five: Path) -> None:
    verdicts = write_report(five, margin=10, baseline="w4a4")
    assert json.loads((five / "report.json").read_text()) == json.loads(json.dumps(verdicts.to_dict()))
    assert (verdicts.baseline, verdicts.margin) == ("w4a4", 10)
