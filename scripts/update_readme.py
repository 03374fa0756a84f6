"""Write the table of GR00T_DUQUANT_* variables into README.md, from their declarations in DuQuantConfig.

A test holds the README to what this writes.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gr00t.quantization.settings.environment import DuQuantConfig

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- variables: written by scripts/update_readme.py -->"
END = "<!-- end of variables -->"
# Two settings are too long for a cell; they stand in full under "The manual way".
LONGEST_DEFAULT = 24


def variables_table() -> str:
    """Every variable with its default and meaning, as a table in Markdown."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, default, meaning in DuQuantConfig.variables():
        shown = f"`{default}`" if default else "(unset)"
        if len(default) > LONGEST_DEFAULT:
            shown = "as documented below"
        rows.append(f"| `{name}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """Return the README's text with the table between its two markers.

    Raises:
        ValueError: a marker is missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"{README.name} has no {BEGIN} ... {END}")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{variables_table()}\n{END}", text)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{README.name} is up to date")
