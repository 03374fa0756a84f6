"""The `GR00T_DUQUANT_*` settings, parsed once from a mapping into one typed object. Standard library only.

A field and its variable are one declaration: the parser, the error texts, the README table and the
completeness test all read the same list. Nothing below an entry point reads the environment; scripts pass it
in.
"""

# ruff: noqa: RUF009  (_var makes a dataclass field, whose default is a fresh one each time)

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from gr00t.quantization.settings import parsers
from gr00t.quantization.settings.options import Execution, Rotation, RowRotation, WeightScale
from gr00t.quantization.settings.unread_variables import warn_of_unread_variables
from gr00t.spelling import did_you_mean

PREFIX = "GR00T_DUQUANT_"

# Every linear of the language model and of the DiT's MLP; never vision, DiT attention, norms, embeddings or
# heads.
DEFAULT_INCLUDE = (
    r".*(backbone\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|action_head\..*\.mlp\.(gate_proj|up_proj|down_proj)).*"
)
DEFAULT_EXCLUDE = (
    r"(?:^|\.)(vision|radio|norm|ln|layernorm|embed|lm_head)(?:\.|$)|action_head\..*\.self_attn\."
)


class DuQuantConfigError(ValueError):
    """One or more `GR00T_DUQUANT_*` variables cannot be used; the message lists every one of them."""


class _Variable(NamedTuple):
    suffix: str
    parse: Callable[[str], Any]
    meaning: str
    enables: bool  # whether setting it alone turns quantization on
    empty_is_unset: bool


def _var(
    suffix: str,
    parse: Callable[[str], Any],
    default: Any,
    meaning: str,
    *,
    enables: bool = True,
    empty: bool = False,
) -> Any:
    """Declare a config field together with its environment variable."""
    return dataclasses.field(
        default=default, metadata={"variable": _Variable(suffix, parse, meaning, enables, empty)}
    )


@dataclasses.dataclass(frozen=True)
class DuQuantConfig:
    """Everything DuQuant needs to know; every field is one `GR00T_DUQUANT_*` variable."""

    enable: bool | None = _var(
        "ENABLE",
        parsers.switch,
        None,
        "`1` on, `0` off; unset: on as soon as a variable that sets something is there",
        enables=False,
        empty=True,
    )
    weight_bits: int | None = _var(
        "WBITS_DEFAULT",
        parsers.bits,
        4,
        "weight bits where `WBITS` names no other: 2 to 8, or 16 (or 0) for floating point",
    )
    act_bits: int | None = _var(
        "ABITS", parsers.bits, 8, "activation bits: 2 to 8, or 16 (or 0) for floating point"
    )
    weight_bits_by_layer: tuple[tuple[str, int | None], ...] = _var(
        "WBITS",
        parsers.bits_by_layer,
        (),
        "weight bits of single layers, `LAYER:BITS,LAYER:BITS`; `*` stands for any part of a name",
        empty=True,
    )
    scope: str = _var(
        "SCOPE", str.strip, "", "prefix a layer name must have; empty: the whole model", empty=True
    )
    include: re.Pattern[str] = _var(
        "INCLUDE",
        parsers.regex,
        re.compile(DEFAULT_INCLUDE),
        "regular expression a layer name must match",
        empty=True,
    )
    exclude: re.Pattern[str] = _var(
        "EXCLUDE",
        parsers.regex,
        re.compile(DEFAULT_EXCLUDE),
        "regular expression a layer name must not match",
        empty=True,
    )
    layers: tuple[str, ...] = _var(
        "LAYERS",
        parsers.names,
        (),
        "exact layer names, comma-separated; replaces `INCLUDE` and `EXCLUDE`",
        empty=True,
    )
    block_in: int = _var(
        "BLOCK",
        parsers.integer(1, 4096),
        16,
        "block of input channels: one rotation and one weight scale each",
    )
    block_out_or_none: int | None = _var(
        "BLOCK_OUT",
        parsers.integer(1, 4096),
        None,
        "block of the output rotation; `BLOCK` when unset",
        empty=True,
    )
    weight_scale: WeightScale = _var(
        "WSCALE",
        parsers.choice(WeightScale),
        WeightScale.BLOCK,
        "`block`: a float scale per output row times an integer per block; `channel`: per output row alone",
    )
    permute: bool = _var(
        "PERMUTE",
        parsers.switch,
        True,
        "deal the input channels over the blocks in snake order of their peaks: of the recorded inputs, "
        "else of the weights",
    )
    rotation: Rotation = _var(
        "ROTATION",
        parsers.choice(Rotation),
        Rotation.HADAMARD,  # the best by measurement: docs/QUALITY.md, section 3
        "block rotation: `hadamard`, `svd`, `none` or `duquant` (greedy, by the recorded inputs, else by the "
        "weights)",
    )
    row_rotation: RowRotation = _var(
        "ROW_ROT",
        parsers.choice(RowRotation),
        RowRotation.RESTORE,
        "output-side rotation: `restore` undoes it; `propagate` leaves it to the next layer where that is "
        "exact (`v_proj` to `o_proj`) and undoes it elsewhere; `0`: none",
    )
    smoothing: float = _var(
        "LS",
        parsers.number(0, 1),
        0.15,
        "migration strength of the smoothing diagonal; no effect without recorded inputs "
        "(`scripts/calibrate.py`)",
    )
    calibration_steps: int = _var(
        "CALIB_STEPS",
        parsers.integer(0, 1_000_000),
        32,
        "requests pooled into static activation scales, by `scripts/calibrate.py` or else the first ones "
        "served; `0`: dynamic per-token scales, always",
    )
    act_percentile: float = _var(
        "ACT_PCT", parsers.number(50, 100), 99.9, "percentile of |x| that a static scale covers"
    )
    pack_dir: Path | None = _var(
        "PACKDIR",
        Path,
        None,
        "folder that keeps the quantized layers, and statistics of their inputs, for the next start",
        enables=False,
        empty=True,
    )
    execution: Execution = _var(
        "EXECUTION",
        parsers.choice(Execution),
        Execution.FAKE,
        "`fake`, `integer` or `auto`: the same bits; `integer` insists on int8 GEMMs, by kernels that read "
        "the packed codes where there are some: on a CPU compiled on first use, on an NVIDIA GPU Triton's "
        "(extra `gpu`); `auto` takes them where there are some",
    )
    precache_weights: bool = _var(
        "PRECACHE_WEIGHTS",
        parsers.switch,
        True,
        "`1` keeps one unpacked weight per layer, where a kernel does not read the packed codes; `0` unpacks "
        "at each call: slower, least memory",
        enables=False,
    )
    dry_run: bool = _var(
        "DRYRUN", parsers.switch, False, "`1` lists the layers, leaves the model alone and ends the program"
    )
    debug: bool = _var(
        "DEBUG",
        parsers.switch,
        False,
        "`1` logs every Linear with the reason it was taken or left, and refuses inf and nan",
        enables=False,
    )
    profile: bool = _var(
        "PROFILE",
        parsers.switch,
        False,
        "`1` times the stages of every layer, printed at exit",
        enables=False,
    )
    profile_sync: bool = _var(
        "PROFILE_SYNC",
        parsers.switch,
        False,
        "`1` waits for the device around each timed stage",
        enables=False,
    )
    include_action_head: bool | None = _var(
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

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> DuQuantConfig | None:
        """Read every `GR00T_DUQUANT_*` entry of `environ`; None where they do not turn quantization on.

        Raises:
            DuQuantConfigError: naming every unknown variable and every unusable value at once.
        """
        values = cls.given(environ)
        config = cls(**values)
        enabled = config.enable
        if enabled is None:
            enabled = any(_turns_on(field, values) for field in dataclasses.fields(cls))
        return config if enabled else None

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
            variable: _Variable = fields[name].metadata["variable"]
            if not text.strip() and variable.empty_is_unset:
                continue
            try:
                values[fields[name].name] = variable.parse(text)
            except ValueError as error:
                problems.append(f"{name}={text!r}: {error}")
        if problems:
            raise DuQuantConfigError("bad DuQuant settings\n  " + "\n  ".join(problems))
        return values

    @classmethod
    def variables(cls) -> list[tuple[str, str, str]]:
        """Name, default as one would type it, and meaning of every variable, in declaration order."""
        rows = []
        for field in dataclasses.fields(cls):
            variable: _Variable = field.metadata["variable"]
            rows.append((PREFIX + variable.suffix, _typed(field, field.default), variable.meaning))
        return rows

    def to_dict(self) -> dict[str, str]:
        """Every setting by its variable's name, as text that `from_environ` reads back."""
        return {
            PREFIX + field.metadata["variable"].suffix: _typed(field, getattr(self, field.name))
            for field in dataclasses.fields(self)
        }


def warn_of_unread(environ: Mapping[str, str]) -> None:
    """Tell in the log, once, what looks like a setting and is none (`unread_variables`)."""
    known = [name.removeprefix(PREFIX) for name, _, _ in DuQuantConfig.variables()]
    warn_of_unread_variables(environ, PREFIX, known)


def why_not_enabled(environ: Mapping[str, str]) -> str:
    """Say why `from_environ` returned None for `environ`."""
    given = sorted(name for name, text in environ.items() if name.startswith(PREFIX) and text.strip())
    if PREFIX + "ENABLE" in given:
        return f"{PREFIX}ENABLE={environ[PREFIX + 'ENABLE']}"
    if given:
        return f"{', '.join(given)} alone does not turn it on; set {PREFIX}WBITS_DEFAULT=4"
    return f"no {PREFIX}* variable is set; set {PREFIX}WBITS_DEFAULT=4"


def as_text(value: Any) -> str:
    """Write a setting the way one would type it into a variable."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, tuple):
        return ",".join(item if isinstance(item, str) else f"{item[0]}:{item[1] or 16}" for item in value)
    return str(value)


def _typed(field: dataclasses.Field[Any], value: Any) -> str:
    """`as_text` of the value of one field; floating point is 16 bits."""
    return "16" if value is None and field.metadata["variable"].parse is parsers.bits else as_text(value)


def _turns_on(field: dataclasses.Field[Any], values: Mapping[str, Any]) -> bool:
    # DRYRUN=0 asks for nothing, so it must not quantize a model; DRYRUN=1 asks for the list.
    if field.name == "dry_run":
        return bool(values.get(field.name))
    return field.name in values and field.metadata["variable"].enables
