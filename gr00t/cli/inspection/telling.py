"""The findings as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gr00t.cli.inspection.findings import Findings
from gr00t.cli.inspection.statistics import folded, label_of
from gr00t.data.lerobot.frames.frame_source import size

_MOST_TEXTS = 8
_MOST_REMARKS = 12


def as_text(found: Findings) -> str:
    """Everything, with the faults and the verdict last."""
    return "\n".join([*_contents(found), *_faults(found)])


def _contents(found: Findings) -> Iterator[str]:
    told = found.told
    yield told["folder"]
    if found.layout is None:
        return
    robot = f", robot {told['robot']}" if told["robot"] else ""
    yield f"  LeRobot {told['version']}{robot}"
    lengths = told["lengths"]
    yield (
        f"  {told['episodes']:,} episodes, {told['rows']:,} rows at {told['fps']:g} a second: "
        f"{_duration(told['hours'])}; the shortest episode has {lengths['shortest']:,}, the median "
        f"{lengths['median']:,.0f}, the longest {lengths['longest']:,} rows"
    )
    if told.get("readable_episodes", 0) != told["episodes"]:
        yield f"  what follows is of the {told.get('readable_episodes', 0):,} episodes that can be read"
    if not told["modality_file"]:
        yield "  without meta/modality.json: the whole vectors are state.state and action.action"
    yield from _cameras(told.get("cameras", {}), told.get("frame_cache"))
    for kind in ("state", "action"):
        yield from _keys(kind, told[kind])
    for key, texts in told.get("instructions", {}).items():
        yield from _texts(key, texts)
    if told["unread"]:
        yield f"Features under no key: {', '.join(told['unread'])}"
    yield from _configs(told)
    yield from _remarks(found)


def _cameras(cameras: dict[str, Any], cache: dict[str, int] | None) -> Iterator[str]:
    if not cameras:
        return
    yield "Cameras"
    wide = max(map(len, cameras))
    for key, camera in cameras.items():
        form = f" {camera['pixel_format']}" if camera["pixel_format"] else ""
        yield (
            f"  {key:<{wide}}  {camera['width']}x{camera['height']}  {camera['codec']}{form}  "
            f"{camera['fps']:g} frames a second  {camera['files']:,} files, {size(camera['bytes'])}, "
            f"{camera['frames']:,} frames"
        )
    if cache and cache["frames"]:
        yield f"  decoded, as training caches them: {cache['frames']:,} frames, {size(cache['bytes'])}"


def _keys(kind: str, keys: dict[str, Any]) -> Iterator[str]:
    total = sum(entry["width"] for entry in keys.values())
    yield (
        f"{kind.capitalize()}: {total} numbers in {len(keys)} keys" if keys else f"{kind.capitalize()}: none"
    )
    wide = max(map(len, keys), default=0)
    for key, entry in keys.items():
        width = entry["width"]
        notes = [entry["rotation_type"] or "", "" if entry["absolute"] else "change", _dtype(entry["dtype"])]
        more = "".join(f"  {note}" for note in notes if note)
        yield f"  {key:<{wide}}  {width:>3}  {entry['column']}[{entry['start']}:{entry['end']}]{more}"


def _dtype(name: str) -> str:
    return "" if name.startswith("float") else name


def _texts(key: str, texts: list[dict[str, Any]]) -> Iterator[str]:
    yield f"Instructions of {key}: {len(texts):,} different"
    for entry in texts[:_MOST_TEXTS]:
        yield f"  {entry['episodes']:>6,} episodes, {entry['rows']:>8,} rows  {entry['text']!r}"
    if len(texts) > _MOST_TEXTS:
        yield f"  ... and {len(texts) - _MOST_TEXTS:,} more (--json lists all)"


def _configs(told: dict[str, Any]) -> Iterator[str]:
    if told.get("reads"):
        yield from _reads(told["data_config"], told["reads"])
    configs = told["configs"]
    if configs["fit"]:
        yield f"Data configurations that fit: {', '.join(configs['fit'])}"
        return
    yield "No registered data configuration fits."
    for other in configs["nearest"]:
        lacks = [f"{key} (there is {hint})" if hint else key for key, hint in other["missing"].items()]
        yield f"  nearest: {other['name']}, " + (f"lacks {', '.join(lacks)}" if lacks else other["problem"])
    if "own" in configs:
        yield "  one of your own, to begin with; saved as my_robot.py it is --data-config my_robot:MyRobot"
        yield from (f"      {line}".rstrip() for line in configs["own"].split("\n"))


def _reads(name: str, reads: dict[str, Any]) -> Iterator[str]:
    yield f"With data config {name} a sample is"
    images = reads["images"]
    count = len(images["time_steps"]) * len(images["keys"])
    at = f" at time steps {', '.join(map(str, images['time_steps']))}" if images["time_steps"] != [0] else ""
    yield f"  {count} images: {', '.join(images['keys'])}{at}"
    for kind in ("state", "action"):
        part = reads[kind]
        widths = [entry["width"] for entry in part["keys"].values()]
        total = "?" if None in widths else str(sum(widths))
        steps = f"{part['time_steps']} time steps of " if part["time_steps"] > 1 else ""
        seconds = f" ({reads['horizon_seconds']:.2f} s)" if kind == "action" else ""
        listed = ", ".join(f"{key} {entry['width']} {entry['as']}" for key, entry in part["keys"].items())
        yield f"  {kind}: {steps}{total} numbers of at most {part['limit']}{seconds}: {listed}"
    yield f"  instruction: {', '.join(reads['instruction']) or 'the standard one'}"


def _remarks(found: Findings) -> Iterator[str]:
    remarks = [remark.removeprefix(f"{found.told['folder']}: ") for remark in found.remarks]
    for dimensions in found.dimensions.values():
        for group in folded(dimensions):
            told = ", ".join(dict.fromkeys(each.remark for each in group if each.remark))
            if told:
                remarks.append(f"{label_of(group, len(dimensions))}: {told}")
    if remarks:
        yield "Worth a look"
        yield from (f"  {remark}" for remark in remarks[:_MOST_REMARKS])
        if len(remarks) > _MOST_REMARKS:
            yield f"  ... and {len(remarks) - _MOST_REMARKS} more (--json lists all)"


def _faults(found: Findings) -> Iterator[str]:
    if not found.faults:
        yield "No faults: it can be trained on."
        return
    yield f"{len(found.faults)} {'fault' if len(found.faults) == 1 else 'faults'}"
    yield from (f"  {fault}" for fault in found.faults)


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} hours"
    return f"{60 * hours:.1f} minutes" if hours >= 1 / 60 else f"{3600 * hours:.1f} seconds"
