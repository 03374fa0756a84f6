"""Frames of every camera as one picture: the first, the middle and the last row of some episodes.

Black pictures, cameras that were exchanged, and instructions that belong to another episode are seen at a
glance, and by nothing else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from gr00t.cli.inspection.cameras import frame_of
from gr00t.cli.inspection.reading import Readable
from gr00t.data.lerobot.meta.faults import DatasetError, Fault

_EPISODES = 6
_CAMERAS_ABREAST = 3
_PLACES = ("first", "middle", "last")
_MARGIN, _GAP, _LINE = 24, 6, 20
_PAPER, _INK, _FAINT, _BAD = "#ffffff", "#1a1a1a", "#666666", "#b3261e"
# Thumbnails are as wide as lets the sheet be read on a screen, by the number of cameras abreast.
_WIDTHS = {1: 320, 2: 240, 3: 200}
# Brought by matplotlib; it has more alphabets than Pillow's own.
_FONT = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


def contact_sheet(
    readable: Readable, cameras: Mapping[str, Mapping[str, Any]], faults: list[Fault]
) -> Image.Image:
    """Draw the sheet.

    Args:
        readable: the data set.
        cameras: key to width and height, of those that can be read.
        faults: gets frames that cannot be decoded.
    """
    episodes = readable.layout.episodes
    chosen = np.unique(np.linspace(0, len(episodes) - 1, _EPISODES).round().astype(int)).tolist()
    abreast = min(len(cameras), _CAMERAS_ABREAST)
    width = _WIDTHS[abreast]
    heights = {key: round(width * seen["height"] / seen["width"]) for key, seen in cameras.items()}
    keys = list(cameras)
    bands = [keys[first : first + abreast] for first in range(0, len(keys), abreast)]
    column = len(_PLACES) * (width + _GAP) + _MARGIN
    sheet_width = 2 * _MARGIN + abreast * column - _MARGIN - _GAP
    titles = [_title(readable, number, sheet_width - 2 * _MARGIN) for number in chosen]
    band_heights = [max(heights[key] for key in band) + 2 * _LINE + _GAP for band in bands]
    body = sum((len(title) + 0.5) * _LINE + sum(band_heights) + _MARGIN for title in titles)
    sheet = Image.new("RGB", (sheet_width, int(_MARGIN + _LINE * 1.5 + body)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    small, large = _font(12), _font(14)
    told = f"{readable.layout.folder.name}: {len(chosen)} of {len(episodes)} episodes"
    pen.text((_MARGIN, _MARGIN / 2), told, _FAINT, small)
    firsts = np.cumsum([0, *(episode.length for episode in episodes)]).tolist()
    y = _MARGIN / 2 + _LINE * 1.5
    for number, title in zip(chosen, titles, strict=True):
        pen.line((_MARGIN, y - 4, sheet_width - _MARGIN, y - 4), _FAINT)
        for line in title:
            pen.text((_MARGIN, y), line, _INK, large)
            y += _LINE
        y += _LINE / 2
        length = episodes[number].length
        for band, height in zip(bands, band_heights, strict=True):
            for place, key in enumerate(band):
                x = _MARGIN + place * column
                pen.text((x, y), key, _INK, small)
                for part, row in enumerate((0, (length - 1) // 2, length - 1)):
                    left = x + part * (width + _GAP)
                    size = (width, heights[key])
                    _thumbnail(
                        sheet, pen, readable, key, firsts[number] + row, (left, y + _LINE), size, faults
                    )
                    label = f"{_PLACES[part]}: row {row}{_time(readable, number, row)}"
                    pen.text((left, y + _LINE + heights[key] + 1), label, _FAINT, small)
            y += height
        y += _MARGIN
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONT, size)


def _shown(text: str) -> str:
    """An instruction in quotes, or that it cannot be written: boxes in place of letters tell nothing."""
    glyphs = FT2Font(_FONT)
    if all(glyphs.get_char_index(ord(letter)) for letter in text):
        return f"“{text}”"
    return "(an instruction in letters that the font of this picture lacks)"


def _title(readable: Readable, number: int, width: int) -> list[str]:
    """Episode, length and instructions, in lines that fit."""
    episode = readable.layout.episodes[number]
    first = sum(other.length for other in readable.layout.episodes[:number])
    said: dict[str, None] = {}
    for texts in readable.texts.values():
        numbers = texts.numbers[first : first + episode.length]
        said.update(dict.fromkeys(str(texts.texts[at]) for at in dict.fromkeys(numbers.tolist())))
    seconds = episode.length / readable.layout.fps
    head = f"Episode {episode.index}, {episode.length} rows, {seconds:.1f} s"
    listed = "   ".join(map(_shown, said))
    lines = textwrap.wrap(f"{head}   {listed}", max(30, width // 8), max_lines=3, placeholder=" ...")
    return lines or [head]


def _time(readable: Readable, number: int, row: int) -> str:
    return f", {readable.stamps[number][row]:.2f} s" if readable.stamps else ""


def _thumbnail(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    readable: Readable,
    key: str,
    row: int,
    at: tuple[float, float],
    size: tuple[int, int],
    faults: list[Fault],
) -> None:
    """Put a frame on the sheet, or say in its place that it cannot be decoded."""
    left, top = int(at[0]), int(at[1])
    try:
        frame = frame_of(readable, key, row)
    except DatasetError as error:
        told = error.faults or [Fault(readable.layout.folder, str(error))]
        faults.extend(fault for fault in told if fault not in faults)
        pen.rectangle((left, top, left + size[0] - 1, top + size[1] - 1), outline=_BAD)
        pen.text((left + 8, top + 8), "cannot be decoded", _BAD, _font(12))
        return
    sheet.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), (left, top))
