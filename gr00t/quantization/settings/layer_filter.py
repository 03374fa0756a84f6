"""Which linear layers are quantized, by their names alone. Standard library only."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable


@dataclasses.dataclass(frozen=True)
class LayerFilter:
    """Takes layers by name; a `filter_fn` for `quantize_` and `plan` that can say why.

    A TypeError names what is of another kind: an expression is a compiled one.

    Attributes:
        scope: prefix that a name must have.
        include: what a name must match; None: every name does.
        exclude: what a name must not match; None: no name does.
        layers: exact names; where there are some, nothing else counts.
    """

    scope: str = ""
    include: re.Pattern[str] | None = None
    exclude: re.Pattern[str] | None = None
    layers: Collection[str] = ()

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            if not isinstance(value := getattr(self, name), (re.Pattern, type(None))):
                compiled = f", re.compile({value!r})" if isinstance(value, str) else ""
                raise TypeError(f"{name}={value!r}: expected a compiled expression{compiled}, or None")
        if isinstance(self.layers, str) or not isinstance(self.layers, Collection):
            raise TypeError(f"layers={self.layers!r}: expected a list of names")
        if not isinstance(self.scope, str):
            raise TypeError(f"scope={self.scope!r}: expected the beginning of a name")

    def __call__(self, module: object, name: str) -> bool:
        """Whether the layer of that name is taken, whatever it is."""
        return self.judge(name)[0]

    def judge(self, name: str, alias: str | None = None, shared: Iterable[str] = ()) -> tuple[bool, str]:
        """Say whether a layer is taken, and why: scope and include are met by any of its names, exclude by
        any, and layers may have any.

        Args:
            name: of the layer in its model.
            alias: in the checkpoint's format, if it has one.
            shared: further names of a layer that is in several places.
        """
        whose = {other: f" in its name {other}" for other in shared}
        if alias:
            whose[alias] = " in the checkpoint's name"
        names = {name: "", **whose}
        if self.layers:
            named = any(name in self.layers for name in names)
            return named, "named by LAYERS" if named else "not named by LAYERS"
        if not any(name.startswith(self.scope) for name in names):
            return False, f"outside SCOPE {self.scope!r}"
        if self.include is not None and not any(self.include.search(name) for name in names):
            return False, "INCLUDE does not match"
        for known, where in names.items():
            if self.exclude is not None and (found := self.exclude.search(known)):
                return False, f"EXCLUDE matches {found.group()!r}{where}"
        return True, "INCLUDE matches" if self.include is not None else "every Linear is taken"
