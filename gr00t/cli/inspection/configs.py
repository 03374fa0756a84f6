"""Which data configurations fit a data set, and what they read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gr00t.cli.inspection.reading import Readable
from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.check import find_faults
from gr00t.data.lerobot.described import describe_set, statistical_values
from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.modality import MODALITY, unknown_keys
from gr00t.data.lerobot.rows.contents import keys_of
from gr00t.data.schema import DatasetMetadata, VideoMetadata
from gr00t.data.transform.base import ModalityTransform
from gr00t.data.transform.rotation import rotation_width, wrong_rotations
from gr00t.experiment.data_config import DATA_CONFIG_MAP, load_data_config
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.preprocessing.fitting import check_fit, joined_widths
from gr00t.model.preprocessing.transform_setup import last_step, steps_of
from gr00t.spelling import did_you_mean

_LIBERO = "examples.Libero.custom_data_config"
REGISTERED = (*DATA_CONFIG_MAP, f"{_LIBERO}:LiberoDataConfig", f"{_LIBERO}:LiberoDataConfigMeanStd")
# Of those that do not fit, so many are told, unless they lack more than this share of their keys.
_NEAREST, _MOST_MISSING = 2, 0.5


def examine_config(
    name: str, layout: Layout, readable: Readable | None, cameras: Mapping[str, Any]
) -> tuple[list[Fault], dict[str, Any] | None]:
    """What keeps a data configuration from being used with a data set, and what is read with it.

    Of a configuration that cannot be used the second is None.

    Raises:
        ValueError: there is no such configuration.
    """
    config = load_data_config(name)
    modalities, transform = config.modality_config(), config.transform()
    wanted = [key for part in modalities.values() for key in part.modality_keys]
    missing = unknown_keys(layout.folder, layout.modality, layout.features, wanted)
    if missing:
        return missing, None
    path = layout.folder / MODALITY
    problem = _misfit(transform, modalities, layout, readable, cameras)
    faults = [Fault(path, f"with data config {name}: {problem}")] if problem else []
    if readable is not None:
        for step in steps_of(transform):
            converted = getattr(step, "target_rotations", {})
            faults += [fault for key in converted if (fault := _no_rotation(readable, key)) is not None]
    return faults, None if problem else _reads(modalities, transform, layout)


def faults_met(name: str, layout: Layout, faults: Sequence[Fault]) -> list[Fault]:
    """Those of a set's faults that are met when it is read with a data configuration.

    Raises:
        ValueError: there is no such configuration.
    """
    modalities = load_data_config(name).modality_config()
    if not faults:
        return []
    met = find_faults(layout.folder, modalities)
    # What `find_faults` does not look for names its camera.
    return [*met, *(fault for fault in faults if fault.place in keys_of(modalities, "video"))]


def _no_rotation(readable: Readable, key: str) -> Fault | None:
    """The first row of a key that is no rotation though it will be converted as one."""
    column = readable.layout.modality.columns[key]
    rotation = column.rotation_type
    if (
        key not in readable.numbers
        or rotation is None
        or rotation_width(rotation) != column.end - column.start
    ):
        return None  # what that means stands in other faults
    wrong, told = wrong_rotations(torch.from_numpy(readable.numbers[key]), rotation)
    rows = wrong.nonzero().flatten().tolist()
    if not rows:
        return None
    number, row = readable.episode_of(rows[0])
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    what = f"{key}: {told} is no rotation as {rotation.value}{more}"
    return Fault(readable.places[number].path, what, f"row {row}")


def fitting_configs(
    layout: Layout, readable: Readable | None, cameras: Mapping[str, Any]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the registered ones that fit, and what is missing for those that come nearest."""
    known = {*layout.modality.cameras, *layout.modality.columns, *layout.modality.annotations}
    fits, others = [], []
    for name in REGISTERED:
        config = load_data_config(name)
        modalities = config.modality_config()
        wanted = [key for part in modalities.values() for key in part.modality_keys]
        missing = [key for key in wanted if key not in known]
        problem = "" if missing else _misfit(config.transform(), modalities, layout, readable, cameras)
        if not missing and not problem:
            fits.append(name)
            continue
        hints = {key: _hint(key, known) for key in missing}
        others.append((len(missing) / len(wanted), {"name": name, "missing": hints, "problem": problem}))
    others.sort(key=lambda other: other[0])
    near = [other for share, other in others if share <= _MOST_MISSING][:_NEAREST]
    return fits, near


def _hint(key: str, known: set[str]) -> str:
    """The key of the set that is most like it, by their names: the kind before them is the same."""
    kind, _, name = key.partition(".")
    names = [other.removeprefix(f"{kind}.") for other in known if other.startswith(f"{kind}.")]
    hint = did_you_mean(name, names)
    return f"{kind}.{hint[len('did you mean ') : -1]}" if hint.startswith("did") else ""


def _misfit(
    transform: ModalityTransform,
    modalities: Mapping[str, ModalityConfig],
    layout: Layout,
    readable: Readable | None,
    cameras: Mapping[str, Any],
) -> str:
    """Why a configuration whose keys are all there cannot be trained with; empty if it can."""
    described = {key: column.described() for key, column in layout.modality.columns.items()}
    try:
        check_fit(modalities, transform, described, Gr00tConfig.full_size())
        metadata = _metadata(modalities, layout, readable, cameras)
        if metadata is not None:
            transform.set_metadata(metadata)
    except ValueError as error:
        return str(error)
    return ""


def _metadata(
    modalities: Mapping[str, ModalityConfig],
    layout: Layout,
    readable: Readable | None,
    cameras: Mapping[str, Any],
) -> DatasetMetadata | None:
    """What a checkpoint would carry; None where not all of it can be read."""
    keys = [*keys_of(modalities, "state"), *keys_of(modalities, "action")]
    videos = keys_of(modalities, "video")
    if readable is None or not set(keys) <= readable.numbers.keys() or not set(videos) <= cameras.keys():
        return None
    columns = {key: layout.modality.columns[key] for key in keys}
    statistics = {key: statistical_values(readable.numbers[key]) for key in keys}
    seen = {
        key: VideoMetadata(
            resolution=(cameras[key]["width"], cameras[key]["height"]), channels=3, fps=layout.fps
        )
        for key in videos
    }
    return describe_set(layout.folder, columns, statistics, seen, EmbodimentTag.NEW_EMBODIMENT)


def _reads(
    modalities: Mapping[str, ModalityConfig], transform: ModalityTransform, layout: Layout
) -> dict[str, Any]:
    """What N1.5 reads at one time step."""
    described = {key: column.described() for key, column in layout.modality.columns.items()}
    widths, last = joined_widths(transform, described), last_step(transform)
    limits = {"state": last.max_state_dim, "action": last.max_action_dim}
    reads: dict[str, Any] = {
        "images": {
            "keys": keys_of(modalities, "video"),
            "time_steps": modalities["video"].delta_indices if "video" in modalities else [],
        },
        "instruction": keys_of(modalities, "language"),
        "horizon": len(modalities["action"].delta_indices),
        "horizon_seconds": len(modalities["action"].delta_indices) / layout.fps,
    }
    for kind in ("state", "action"):
        reads[kind] = {
            "time_steps": len(modalities[kind].delta_indices) if kind in modalities else 0,
            "limit": limits[kind],
            "keys": {
                key: {"width": widths.get(kind, {}).get(key), "as": _form(key, transform)}
                for key in keys_of(modalities, kind)
            },
        }
    return reads


def _form(key: str, transform: ModalityTransform) -> str:
    """How a key is prepared: its normalization, and a rotation's new form."""
    forms = []
    for step in steps_of(transform):
        if key in step.apply_to and type(step).__name__ == "StateActionSinCosTransform":
            forms.append("sine and cosine")
        rotation = getattr(step, "target_rotations", {}).get(key)
        mode = getattr(step, "normalization_modes", {}).get(key)
        forms += [part for part in (rotation, mode) if part]
    return ", ".join(forms) or "as it is"


def own_config(layout: Layout) -> str:
    """A data configuration for the keys of a set, to begin with."""
    modality = layout.modality
    state = [key for key in modality.columns if key.startswith("state.")]
    action = [key for key in modality.columns if key.startswith("action.")]
    # N1.5's name first: it is what clients send.
    texts = sorted(modality.annotations, key=lambda key: "task_description" not in key)[:1]
    lines = [
        "from gr00t.experiment.data_config import StandardDataConfig",
        "",
        "",
        "class MyRobot(StandardDataConfig):",
        f"    video_keys = {list(modality.cameras)}",
        f"    state_keys = {state}",
        f"    action_keys = {action}",
        f"    language_keys = {texts}",
    ]
    for kind, keys in (("state", state), ("action", action)):
        whole = [key for key in keys if not modality.columns[key].continuous]
        if whole:
            modes = {key: "binary" if key in whole else "min_max" for key in keys}
            lines.append(f"    {kind}_normalization_modes = {modes}")
    return "\n".join(lines)
