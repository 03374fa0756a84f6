"""The one adapter between `GR00T_DUQUANT_*` variables and what the library takes. Standard library only.

A `DuQuantConfig` is what variables say (`declarations` lists them); its properties `scheme`, `layer_filter`
and `runtime` are what `quantize_` and `plan` take. Nothing below an entry point reads the environment;
programs pass it in. Nobody else spells a variable: who hands settings to another process does so by
`to_environ`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from gr00t.quantization.settings.declarations import DeclaredVariables
from gr00t.quantization.settings.layer_filter import LayerFilter
from gr00t.quantization.settings.scheme import FormatByLayer, LinearScheme, RuntimeOptions
from gr00t.quantization.settings.spec import bits_of, format_of
from gr00t.quantization.settings.unread_variables import warn_of_unread_variables
from gr00t.quantization.settings.variable import Variable, typed
from gr00t.spelling import did_you_mean

PREFIX = "GR00T_DUQUANT_"

# What they call by the same name as a `DuQuantConfig`.
_OF_SCHEME = (
    *("weight_scale", "permute", "rotation", "row_rotation"),
    *("smoothing", "rounding", "calibration_steps", "act_percentile"),
)
_OF_RUNTIME = ("execution", "backend", "pack_dir", "precache_weights", "debug", "profile", "profile_sync")


class DuQuantConfigError(ValueError):
    """One or more `GR00T_DUQUANT_*` variables cannot be used; the message lists every one of them."""


class DuQuantDryRunError(DuQuantConfigError):
    """DRYRUN=1 was set where a quantized model is wanted: layers are listed, and there is none."""


def _same(source: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}


def _bits_by_layer(formats: FormatByLayer) -> tuple[tuple[str, int | None], ...]:
    return tuple((name, bits_of(side)) for name, side in dict(formats).items())


@dataclasses.dataclass(frozen=True)
class DuQuantConfig(DeclaredVariables):
    """What the variables say; every field is one `GR00T_DUQUANT_*` variable.

    Which layers are taken where none of them says so is a model family's to know: `include` and `exclude` of
    the `defaults` that `from_environ` is given.
    """

    @property
    def block_out(self) -> int:
        """Block of the output rotation, in output channels."""
        return self.block_in if self.block_out_or_none is None else self.block_out_or_none

    @property
    def is_static(self) -> bool:
        """Whether activation scales are fixed by what layers are called with."""
        bits = (self.act_bits, *dict(self.act_bits_by_layer).values())
        return self.calibration_steps > 0 and any(side is not None for side in bits)

    @property
    def scheme(self) -> LinearScheme:
        """How layers are quantized."""
        return LinearScheme(
            weight=format_of(self.weight_bits),
            activation=format_of(self.act_bits),
            block=self.block_in,
            block_out=self.block_out_or_none,
            weight_by_layer={name: format_of(bits) for name, bits in self.weight_bits_by_layer},
            activation_by_layer={name: format_of(bits) for name, bits in self.act_bits_by_layer},
            **_same(self, _OF_SCHEME),
        )

    @property
    def layer_filter(self) -> LayerFilter:
        """Which layers are quantized.

        Raises:
            DuQuantConfigError: nothing says so.
        """
        if self.include is None and not self.layers:
            raise DuQuantConfigError(
                f"nothing says which layers to quantize: set {PREFIX}INCLUDE to a regular expression that "
                f"their names match ({PREFIX}INCLUDE='.*': all), or {PREFIX}LAYERS to their names"
            )
        return LayerFilter(self.scope, self.include, self.exclude, self.layers)

    @property
    def runtime(self) -> RuntimeOptions:
        """How the quantized model runs; `kernels` is not among the variables."""
        return RuntimeOptions(**_same(self, _OF_RUNTIME))

    @classmethod
    def describing(
        cls, scheme: LinearScheme, layer_filter: LayerFilter, runtime: RuntimeOptions
    ) -> DuQuantConfig:
        """Return the settings whose `scheme`, `layer_filter` and `runtime` are these."""
        return cls(
            weight_bits=bits_of(scheme.weight),
            act_bits=bits_of(scheme.activation),
            weight_bits_by_layer=_bits_by_layer(scheme.weight_by_layer),
            act_bits_by_layer=_bits_by_layer(scheme.activation_by_layer),
            scope=layer_filter.scope,
            include=layer_filter.include,
            exclude=layer_filter.exclude,
            layers=tuple(layer_filter.layers),
            block_in=scheme.block,
            block_out_or_none=scheme.block_out,
            **_same(scheme, _OF_SCHEME),
            **_same(runtime, _OF_RUNTIME),
        )

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], defaults: DuQuantConfig | None = None
    ) -> DuQuantConfig | None:
        """Read every `GR00T_DUQUANT_*` entry of `environ`; None where they do not turn quantization on.

        Args:
            environ: usually `os.environ`.
            defaults: what holds where `environ` says nothing, of a family of models.

        Raises:
            DuQuantConfigError: naming every unknown variable and every unusable value at once.
        """
        values = cls.given(environ)
        config = dataclasses.replace(defaults or cls(), **values)
        if config.enable is not None:
            return config if config.enable else None
        # DRYRUN=0 asks for nothing, so it must not quantize a model; DRYRUN=1 asks for the list.
        asking = [name for name, value in values.items() if name != "dry_run" or value]
        fields = cls.__dataclass_fields__
        return config if any(fields[name].metadata["variable"].enables for name in asking) else None

    @classmethod
    def given(cls, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields that entries of `environ` set, by name; defaults are not among them.

        Entries that look like settings and that nothing reads are told in the log (`warn_of_unread`).

        Raises:
            DuQuantConfigError: as `from_environ`.
        """
        fields = {PREFIX + field.metadata["variable"].suffix: field for field in dataclasses.fields(cls)}
        warn_of_unread(environ)
        given = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        values: dict[str, Any] = {}
        problems = []
        for name, text in sorted(given.items()):
            if name not in fields:
                # Compare what follows the prefix: the long common prefix would make everything look close.
                hint = did_you_mean(name[len(PREFIX) :], (known[len(PREFIX) :] for known in fields))
                problems.append(f"{name}: unknown variable; {hint.replace('mean ', f'mean {PREFIX}', 1)}")
                continue
            variable: Variable = fields[name].metadata["variable"]
            if not text.strip() and variable.empty_is_unset:
                continue
            try:
                values[fields[name].name] = variable.parse(text)
            except ValueError as error:
                problems.append(f"{name}={text!r}: {error}")
        if problems:
            raise DuQuantConfigError("bad DuQuant settings\n  " + "\n  ".join(problems))
        return values

    def variables(self) -> list[tuple[str, str, str]]:
        """Name, value as one would type it, and meaning of every variable, in declaration order."""
        declared = [(field, field.metadata["variable"]) for field in dataclasses.fields(self)]
        return [(PREFIX + v.suffix, typed(f, getattr(self, f.name)), v.meaning) for f, v in declared]

    def to_dict(self) -> dict[str, str]:
        """Every setting by its variable's name, as text that `from_environ` reads back."""
        return {name: text for name, text, _ in self.variables()}

    def disagreements(self, found: Mapping[str, str]) -> list[tuple[str, str | None, str]]:
        """Per variable that differs in `found`, `to_dict` of a server: its text there, and the one here.

        Where packs are kept decides nothing, and where nothing says which layers, the server has defaults.
        """
        expected = {name: text for name, text in self.to_dict().items() if name != PREFIX + "PACKDIR"}
        for name in ("include", "exclude"):
            if getattr(self, name) is None:
                del expected[PREFIX + name.upper()]
        return [(name, found.get(name), text) for name, text in expected.items() if found.get(name) != text]


def settings_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in `environ` as text, by variable less `GR00T_DUQUANT_`; see `warn_of_unread`."""
    warn_of_unread(environ)
    return {name.removeprefix(PREFIX): text for name, text in environ.items() if name.startswith(PREFIX)}


def to_environ(settings: Mapping[str, str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return `environ` with `settings` and none of its own: for a process that is to quantize by them.

    Args:
        settings: text by variable less `GR00T_DUQUANT_`, as `settings_in` returns it and recipes have it.
        environ: the rest of the environment; None: nothing.
    """
    kept = {name: text for name, text in (environ or {}).items() if not name.startswith(PREFIX)}
    return {**kept, **{PREFIX + name: text for name, text in settings.items()}}


def warn_of_unread(environ: Mapping[str, str]) -> None:
    """Tell in the log, once, what looks like a setting and is none (`unread_variables`)."""
    known = [field.metadata["variable"].suffix for field in dataclasses.fields(DuQuantConfig)]
    warn_of_unread_variables(environ, PREFIX, known)


def why_not_enabled(environ: Mapping[str, str]) -> str:
    """Say why `from_environ` returned None for `environ`."""
    given = sorted(name for name, text in environ.items() if name.startswith(PREFIX) and text.strip())
    if PREFIX + "ENABLE" in given:
        return f"{PREFIX}ENABLE={environ[PREFIX + 'ENABLE']}"
    if given:
        return f"{', '.join(given)} alone does not turn it on; set {PREFIX}WBITS_DEFAULT=4"
    return f"no {PREFIX}* variable is set; set {PREFIX}WBITS_DEFAULT=4"
