"""An allocation as a recipe: settings that give every layer its bits, in few words."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from gr00t.eval.arms.recipes import Recipe

# What the allocation decides, and what belongs to somebody's machine.
_NOT_TAKEN_OVER = ("WBITS_DEFAULT", "WBITS", "PACKDIR")


def rules(bits: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """Return what most layers get, and rules for the others as `WBITS` has them: patterns, then exact names.

    Layers of one kind, in all blocks of a part, share a pattern; those of them that differ are written out.

    Args:
        bits: by layer.
    """
    default = _most_common(bits.values())
    kinds: dict[str, dict[str, int]] = defaultdict(dict)
    for name, own in bits.items():
        kinds[_pattern(name)][name] = own
    patterns: dict[str, int] = {}
    for pattern, layers in kinds.items():
        usual = _most_common(layers.values())
        if len(layers) > 1 and usual != default:
            patterns[pattern] = usual
    exact = {
        name: own
        for name, own in bits.items()
        if own != next((by for pattern, by in patterns.items() if fnmatchcase(name, pattern)), default)
    }
    return default, {**patterns, **exact}


def recipe_text(
    base: Recipe, name: str, description: str, comments: tuple[str, ...], bits: Mapping[str, int]
) -> str:
    """Return a recipe's TOML: that of `base`, with these bits.

    Args:
        base: whose other settings are taken over.
        name: of the recipe.
        description: one line.
        comments: lines that stand before all else.
        bits: by layer.
    """
    default, others = rules(bits)
    lines = [*(f"# {comment}" for comment in comments)]
    lines += [f"name = {_quoted(name)}", f"description = {_quoted(description)}"]
    if base.denoising_steps is not None:
        lines.append(f"denoising_steps = {base.denoising_steps}")
    lines += ["calibrate = true", "", "[duquant]", f"WBITS_DEFAULT = {default}"]
    if others:
        # A backslash at the end of a line joins it with the next one.
        joined = ",\\\n".join(f"    {rule}:{own}" for rule, own in others.items())
        lines.append(f'WBITS = """\\\n{joined}"""')
    lines += [
        f"{setting} = {_quoted(text)}"
        for setting, text in base.settings.items()
        if setting not in _NOT_TAKEN_OVER
    ]
    return "\n".join(lines) + "\n"


def _most_common(values: Iterable[int]) -> int:
    return Counter(values).most_common(1)[0][0]


def _pattern(name: str) -> str:
    """`backbone.*.q_proj`, for the layers of that kind in all blocks."""
    first, _, rest = name.partition(".")
    last = rest.rpartition(".")[2]
    return f"{first}.*.{last}" if last else name


def _quoted(text: str) -> str:
    # What JSON escapes, TOML does in the same way.
    return json.dumps(text, ensure_ascii=False)
