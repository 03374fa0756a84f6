"""Every `GR00T_DUQUANT_*` variable, declared once: a field, its parser, default and meaning.

The error texts, the table of the documentation and the completeness test read the same list. What variables
are turned into is in `environment`. Standard library only.
"""

# ruff: noqa: RUF009  (var makes a dataclass field, whose default is a fresh one each time)

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from gr00t.files.home import expanded
from gr00t.quantization.settings import options, parsers
from gr00t.quantization.settings.scheme import LinearScheme, RuntimeOptions
from gr00t.quantization.settings.spec import LARGEST_BLOCK, MOST_CALIBRATION_STEPS, bits_of
from gr00t.quantization.settings.variable import var

_SCHEME, _RUNTIME = LinearScheme(), RuntimeOptions()


@dataclasses.dataclass(frozen=True)
class DeclaredVariables:
    """What variables say; every field is one of them.

    Which layers are taken where none of them says so is a model family's to know.
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
    act_bits_by_layer: tuple[tuple[str, int | None], ...] = var(
        "ABITS_LAYERS",
        parsers.bits_by_layer,
        (),
        "activation bits of single layers, written as `WBITS`",
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
