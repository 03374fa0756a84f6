"""The one adapter between `GR00T_DUQUANT_*` variables and what the library takes. Standard library only.

A `DuQuantConfig` is what variables say; its properties `scheme`, `layer_filter` and `runtime` are what
`quantize_` and `plan` take. A field and its variable are one declaration: the parser, the error texts, the
table of the documentation and the completeness test all read the same list. Nothing below an entry point
reads the environment; programs pass it in. Nobody else spells a variable: who hands settings to another
process does so by `to_environ`.
"""

# ruff: noqa: RUF009  (var makes a dataclass field, whose default is a fresh one each time)

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gr00t.files.home import expanded
from gr00t.quantization.settings import options, parsers
from gr00t.quantization.settings.layer_filter import LayerFilter
from gr00t.quantization.settings.scheme import LinearScheme, RuntimeOptions
from gr00t.quantization.settings.spec import LARGEST_BLOCK, MOST_CALIBRATION_STEPS, bits_of, format_of
from gr00t.quantization.settings.unread_variables import warn_of_unread_variables
from gr00t.quantization.settings.variable import Variable, typed, var
from gr00t.spelling import did_you_mean

PREFIX = "GR00T_DUQUANT_"

_SCHEME, _RUNTIME = LinearScheme(), RuntimeOptions()
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


@dataclasses.dataclass(frozen=True)
class DuQuantConfig:
    """What the variables say; every field is one `GR00T_DUQUANT_*` variable.

    Which layers are taken where none of them says so is a model family's to know: `include` and `exclude` of
    the `defaults` that `from_environ` is given.
    """

    enable: bool | None = var(
        "ENABLE",
        parsers.switch,
        None,
        "`1` on, `0` off; unset: on as soon as a variable that sets something is there",
        enables=False,
        empty=True,
    )
    weight_bits: int | None = var(
        "WBITS_DEFAULT",
        parsers.bits,
        bits_of(_SCHEME.weight),
        "weight bits where `WBITS` names no other: 2 to 8, or 16 (or 0) for floating point",
    )
    act_bits: int | None = var(
        "ABITS",
        parsers.bits,
        bits_of(_SCHEME.activation),
        "activation bits: 2 to 8, or 16 (or 0) for floating point",
    )
    weight_bits_by_layer: tuple[tuple[str, int | None], ...] = var(
        "WBITS",
        parsers.bits_by_layer,
        (),
        "weight bits of single layers, `LAYER:BITS,LAYER:BITS`; `*` stands for any part of a name",
        empty=True,
    )
    scope: str = var(
        "SCOPE", str.strip, "", "prefix a layer name must have; empty: the whole model", empty=True
    )
    include: re.Pattern[str] | None = var(
        "INCLUDE", parsers.regex, None, "regular expression a layer name must match", empty=True
    )
    exclude: re.Pattern[str] | None = var(
        "EXCLUDE", parsers.regex, None, "regular expression a layer name must not match", empty=True
    )
    layers: tuple[str, ...] = var(
        "LAYERS",
        parsers.names,
        (),
        "exact layer names, comma-separated; replaces `INCLUDE` and `EXCLUDE`",
        empty=True,
    )
    block_in: int = var(
        "BLOCK",
        parsers.integer(1, LARGEST_BLOCK),
        _SCHEME.block,
        "block of input channels: one rotation and one weight scale each",
    )
    block_out_or_none: int | None = var(
        "BLOCK_OUT",
        parsers.integer(1, LARGEST_BLOCK),
        _SCHEME.block_out,
        "block of the output rotation; `BLOCK` when unset",
        empty=True,
    )
    weight_scale: options.WeightScale = var(
        "WSCALE",
        parsers.choice(options.WeightScale),
        _SCHEME.weight_scale,
        "`block`: a float scale per output row times an integer per block; `channel`: per output row alone",
    )
    permute: bool = var(
        "PERMUTE",
        parsers.switch,
        _SCHEME.permute,
        "deal the input channels over the blocks in snake order of their peaks: of the recorded inputs, "
        "else of the weights",
    )
    rotation: options.Rotation = var(
        "ROTATION",
        parsers.choice(options.Rotation),
        _SCHEME.rotation,
        "block rotation: `hadamard`, `svd`, `none` or `duquant` (greedy, by the recorded inputs, else by the "
        "weights)",
    )
    row_rotation: options.RowRotation = var(
        "ROW_ROT",
        parsers.choice(options.RowRotation),
        _SCHEME.row_rotation,
        "output-side rotation: `restore` undoes it; `propagate` leaves it to the next layer where that is "
        "exact (`v_proj` to `o_proj`) and undoes it elsewhere; `0`: none",
    )
    smoothing: float = var(
        "LS",
        parsers.number(0, 1),
        _SCHEME.smoothing,
        "migration strength of the smoothing diagonal; no effect without inputs (`scripts/calibrate.py`)",
    )
    rounding: options.Rounding = var(
        "ROUNDING",
        parsers.choice(options.Rounding),
        _SCHEME.rounding,
        "`feedback`: those after it make up for what a weight loses, by recorded inputs; else `nearest`",
    )
    calibration_steps: int = var(
        "CALIB_STEPS",
        parsers.integer(0, MOST_CALIBRATION_STEPS),
        _SCHEME.calibration_steps,
        "requests pooled into static scales, by `scripts/calibrate.py` or else as served; `0`: per token",
    )
    act_percentile: float = var(
        "ACT_PCT",
        parsers.number(50, 100),
        _SCHEME.act_percentile,
        "percentile of |x| that a static scale covers",
    )
    pack_dir: Path | None = var(
        "PACKDIR",
        expanded,
        _RUNTIME.pack_dir,
        "folder that keeps the quantized layers, and statistics of their inputs, for the next start",
        enables=False,
        empty=True,
    )
    execution: options.Execution = var(
        "EXECUTION",
        parsers.choice(options.Execution),
        _RUNTIME.execution,
        "`fake`, `auto` or `integer`: the same bits from the same kernels, the fastest that can run: "
        "compiled ones that read the packed codes (on a CPU compiled on first use, on an NVIDIA GPU "
        "Triton's, extra `gpu`), else PyTorch's operations; `integer` refuses a side in floating point, and "
        "a machine without an exact int8 GEMM",
    )
    backend: str | None = var(
        "BACKEND",
        parsers.one_of(options.BACKENDS),
        _RUNTIME.backend,
        "who computes the layers, by name, to compare two: `torch` (PyTorch's operations) or a compiled "
        f"kernel, {', '.join(f'`{name}`' for name in options.BACKENDS[1:])}; unset: the fastest that can run",
        enables=False,
        empty=True,
    )
    precache_weights: bool = var(
        "PRECACHE_WEIGHTS",
        parsers.switch,
        _RUNTIME.precache_weights,
        "`1` keeps one unpacked weight per layer, where no compiled kernel reads the packed codes; `0` "
        "unpacks at each call: slower, least memory",
        enables=False,
    )
    dry_run: bool = var(
        "DRYRUN", parsers.switch, False, "`1` lists the layers, leaves the model alone and ends the program"
    )
    debug: bool = var(
        "DEBUG",
        parsers.switch,
        _RUNTIME.debug,
        "`1` logs every Linear with the reason it was taken or left, and refuses inf and nan",
        enables=False,
    )
    profile: bool = var(
        "PROFILE",
        parsers.switch,
        _RUNTIME.profile,
        "`1` times the stages of every layer, printed at exit",
        enables=False,
    )
    profile_sync: bool = var(
        "PROFILE_SYNC",
        parsers.switch,
        _RUNTIME.profile_sync,
        "`1` waits for the device around each timed stage",
        enables=False,
    )
    include_action_head: bool | None = var(
        "INCLUDE_ACTION_HEAD",
        parsers.switch,
        None,
        "accepted, no effect: `INCLUDE` decides",
        enables=False,
        empty=True,
    )

    @property
    def block_out(self) -> int:
        """Block of the output rotation, in output channels."""
        return self.block_in if self.block_out_or_none is None else self.block_out_or_none

    @property
    def is_static(self) -> bool:
        """Whether activation scales are fixed by what layers are called with."""
        return self.calibration_steps > 0 and self.act_bits is not None

    @property
    def scheme(self) -> LinearScheme:
        """How layers are quantized."""
        return LinearScheme(
            weight=format_of(self.weight_bits),
            activation=format_of(self.act_bits),
            block=self.block_in,
            block_out=self.block_out_or_none,
            weight_by_layer=tuple((name, format_of(bits)) for name, bits in self.weight_bits_by_layer),
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
            weight_bits_by_layer=tuple(
                (name, bits_of(weight)) for name, weight in dict(scheme.weight_by_layer).items()
            ),
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
