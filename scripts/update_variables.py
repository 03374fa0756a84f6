"""Write the table of GR00T_DUQUANT_* variables into docs/QUANTIZATION.md, as DuQuantConfig declares them.

A test holds the document to what this writes.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gr00t.model.quantized_layers import DEFAULTS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "QUANTIZATION.md"
BEGIN = "<!-- variables: written by scripts/update_variables.py -->"
END = "<!-- end of variables -->"
# Two settings are too long for a cell; they stand in full in docs/SERVING.md, "The manual way".
LONGEST_DEFAULT = 24


def variables_table() -> str:
    """Every variable with its default and meaning, as a table in Markdown."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, default, meaning in DEFAULTS.variables():
        shown = f"`{default}`" if default else "(unset)"
        if len(default) > LONGEST_DEFAULT:
            shown = "as in [SERVING.md](SERVING.md)"
        rows.append(f"| `{name}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """Return the document's text with the table between its two markers.

    Raises:
        ValueError: a marker is missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"{DOCUMENT.name} has no {BEGIN} ... {END}")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{variables_table()}\n{END}", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 where it is out of date"
    )
    before = DOCUMENT.read_text(encoding="utf-8")
    after = with_table(before)
    if not parser.parse_args().check:
        DOCUMENT.write_text(after, encoding="utf-8")
    elif after != before:
        raise SystemExit(f"{DOCUMENT.name} is out of date; run: python scripts/update_variables.py")
    print(f"{DOCUMENT.name} is up to date")
