"""The verdict as Markdown: for an issue, a pull request or a note."""

from __future__ import annotations

from collections.abc import Sequence

from gr00t.eval.statistics.runs import Run
from gr00t.eval.statistics.summary import Verdicts
from gr00t.eval.statistics.tables import all_tables, literal
from gr00t.eval.statistics.words import notes, sentence, simulator
from gr00t.libero.tasks.perturbations import suite_title


def render_markdown(verdicts: Verdicts, runs: Sequence[Run]) -> str:
    """All tables, below a sentence per arm and what one has to know before the numbers."""
    told = [
        f"* **{literal(arm.name)}**: {literal(sentence(verdicts.row(arm.name), verdicts))}"
        for arm in verdicts.arms
        if arm.name != verdicts.baseline
    ]
    warned = [f"> {literal(note)}\n" for note in notes(verdicts, runs)]
    parts = [f"# LIBERO: {', '.join(literal(suite_title(suite)) for suite in verdicts.suites)}"]
    parts += [literal(played)] if (played := simulator(verdicts)) else []
    parts += ["\n".join(told)] if told else []
    parts += ["\n".join(warned).rstrip()] if warned else []
    return "\n\n".join([*parts, *(table.as_markdown() for table in all_tables(verdicts))]) + "\n"
