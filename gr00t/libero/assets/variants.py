"""LIBERO-PRO's objects, made known to LIBERO: each behaves like the one that it is a variant of."""

from __future__ import annotations

import functools
import importlib

from gr00t.libero.tasks.perturbations import VARIANTS


def register_variants() -> None:
    """Let problems speak of `VARIANTS`; what LIBERO knows by such a name already stays what it is.

    LIBERO-PRO's own classes are these, but for two that turn an object otherwise where it is placed at
    random: recorded initial states place all of them.
    """
    registry = importlib.import_module("libero.libero.envs.base_object")
    for name, model in VARIANTS.items():
        if name in registry.OBJECTS_DICT:
            continue
        kind = registry.OBJECTS_DICT[model]
        # LIBERO makes the name by which it asks for an object of its class's name.
        own_name = "".join(word.capitalize() for word in name.split("_"))
        members = {"__init__": functools.partialmethod(kind.__init__, obj_name=name)}
        registry.register_object(type(own_name, (kind,), members))
        if model in registry.VISUAL_CHANGE_OBJECTS_DICT:
            registry.register_visual_change_object(registry.OBJECTS_DICT[name])
