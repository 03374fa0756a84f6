"""Data configurations by name, or as "module:Class" of the user's own.

What Isaac-GR00T N1.5 has under this name can be imported from here, transforms included, since users rely on
it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from gr00t.data.dataset import ModalityConfig
from gr00t.data.transform.base import ComposedModalityTransform, ModalityTransform
from gr00t.data.transform.concat import ConcatTransform
from gr00t.data.transform.state_action import (
    StateActionSinCosTransform,
    StateActionToTensor,
    StateActionTransform,
)
from gr00t.data.transform.video import (
    VideoColorJitter,
    VideoCrop,
    VideoResize,
    VideoToNumpy,
    VideoToTensor,
)
from gr00t.experiment.base_config import BaseDataConfig, StandardDataConfig
from gr00t.experiment.robots import (
    DATA_CONFIG_MAP,
    AgibotGenie1DataConfig,
    BimanualPandaGripperDataConfig,
    BimanualPandaHandDataConfig,
    FourierGr1ArmsOnlyDataConfig,
    FourierGr1ArmsWaistDataConfig,
    FourierGr1FullUpperBodyDataConfig,
    OxeDroidDataConfig,
    SinglePandaGripperDataConfig,
    So100DataConfig,
    So100DualCamDataConfig,
    UnitreeG1DataConfig,
    UnitreeG1FullBodyDataConfig,
)
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform
from gr00t.spelling import did_you_mean

__all__ = [
    "DATA_CONFIG_MAP",
    "AgibotGenie1DataConfig",
    "BaseDataConfig",
    "BimanualPandaGripperDataConfig",
    "BimanualPandaHandDataConfig",
    "ComposedModalityTransform",
    "ConcatTransform",
    "DataConfigError",
    "FourierGr1ArmsOnlyDataConfig",
    "FourierGr1ArmsWaistDataConfig",
    "FourierGr1FullUpperBodyDataConfig",
    "GR00TTransform",
    "ModalityConfig",
    "ModalityTransform",
    "OxeDroidDataConfig",
    "SinglePandaGripperDataConfig",
    "So100DataConfig",
    "So100DualCamDataConfig",
    "StandardDataConfig",
    "StateActionSinCosTransform",
    "StateActionToTensor",
    "StateActionTransform",
    "UnitreeG1DataConfig",
    "UnitreeG1FullBodyDataConfig",
    "VideoColorJitter",
    "VideoCrop",
    "VideoResize",
    "VideoToNumpy",
    "VideoToTensor",
    "load_data_config",
]


# Where these are not found, or the current directory has an `examples` of its own.
_SHIPPED = ("examples", "examples.Libero")


class DataConfigError(ValueError):
    """A data configuration that cannot be found or is not one."""


def load_data_config(name: str) -> Any:
    """Return a data configuration: a registered name, or "module:Class", imported and constructed.

    Modules are looked for in the current directory, in this repository, then as Python does. Without a
    checkout `examples.Libero` is `gr00t.examples.Libero`.

    Raises:
        DataConfigError: there is no such name, module or class, the module imports something that is not
            installed, or what was found has no `modality_config()` and `transform()`.
    """
    if ":" not in name:
        if name not in DATA_CONFIG_MAP:
            raise DataConfigError(
                f"data config {name!r}: not registered; {did_you_mean(name, DATA_CONFIG_MAP)} "
                'Your own is "module:Class".'
            )
        return DATA_CONFIG_MAP[name]
    module_name, _, class_name = name.partition(":")
    module = _import(module_name, name)
    if not hasattr(module, class_name):
        known = [key for key, value in vars(module).items() if _is_data_config(value)]
        raise DataConfigError(
            f"data config {name!r}: module {module_name} has no {class_name!r}; "
            f"{did_you_mean(class_name, known)}"
        )
    found = getattr(module, class_name)
    if not _is_data_config(found):
        raise DataConfigError(f"data config {name!r}: {class_name} has no modality_config() and transform()")
    return found() if isinstance(found, type) else found


def _is_data_config(value: Any) -> bool:
    return callable(getattr(value, "modality_config", None)) and callable(getattr(value, "transform", None))


def _import(module_name: str, name: str) -> ModuleType:
    with _search_path():
        importlib.invalidate_caches()
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if module_name != missing and not module_name.startswith(f"{missing}."):
                raise DataConfigError(
                    f"data config {name!r}: module {module_name} imports {missing!r}, which is not installed"
                ) from error
            if missing in _SHIPPED:
                return _import(f"gr00t.{module_name}", name)
            raise DataConfigError(
                f"data config {name!r}: no module {missing!r}; {did_you_mean(missing, _siblings(missing))}"
            ) from error
        except (ValueError, TypeError, ImportError) as error:
            raise DataConfigError(
                f"data config {name!r}: module {module_name} cannot be imported: {error}"
            ) from error


def _siblings(missing: str) -> list[str]:
    """Return the modules beside one that does not exist."""
    parent, _, _ = missing.rpartition(".")
    path = list(importlib.import_module(parent).__path__) if parent else [str(Path.cwd())]
    return [f"{parent}.{module.name}" if parent else module.name for module in pkgutil.iter_modules(path)]


@contextmanager
def _search_path() -> Iterator[None]:
    """Let modules of the current directory and of this repository be found first."""
    added = [str(Path.cwd()), str(Path(__file__).resolve().parents[2])]
    sys.path[:0] = added
    try:
        yield
    finally:
        for path in added:
            sys.path.remove(path)
