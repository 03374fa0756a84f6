"""Our rounding beside GPTQ's as a well-kept library has it: the same layers, the same rows to round by.

llmcompressor wants other versions of packages than this project has, so it runs in an environment of its own
(`llmcompressor_rounding.py`). Twice: on weights and inputs as the model has them, which is what its users
get, and on those that we round, smoothed, permuted and rotated, where all that differs is the rounding.
"""

from __future__ import annotations

import copy
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from gr00t.quantization import IntFormat, LinearScheme, Rounding, quantize_
from gr00t.quantization.duquant_preprocess import Transforms
from gr00t.quantization.numerics.quantizers import quantize, scale_for
from gr00t.quantization.numerics.rotations import rotate_back
from quality_parts.cases import Case, layer_sqnr, output_sqnr
from quality_parts.recipes import DYNAMIC

ENABLE = (
    "python -m venv gptq && gptq/bin/pip install torch llmcompressor==0.14.0.1 && "
    "python scripts/bench/quality.py --part rounding --gptq gptq/bin/python"
)
_OTHER = Path(__file__).with_name("llmcompressor_rounding.py")
_BITS = 4
_GROUPS = (128, 32, 16)
_BLOCKS = (64, 16)
# Of a group: a scale of 16 bits and a zero point. Of a block of ours: an integer of 4 bits.
_GROUP_BITS, _BLOCK_BITS = 16 + _BITS, 4
_INPUTS = {"float": None, "A8": IntFormat(8)}


class Row(NamedTuple):
    """What one way to round gives.

    Attributes:
        label: which.
        bits: that a weight takes, the scales of its row not counted.
        sqnr: of each layer in dB, by what its inputs are, a key of `_INPUTS`.
    """

    label: str
    bits: float
    sqnr: Mapping[str, list[float]]


def gptq_part(cases: Mapping[str, list[Case]], python: str) -> dict[str, dict[str, float]]:
    """SQNR in dB by what rounds: the mean over the layers of `cases`, given by name.

    Args:
        cases: float models, with the inputs of their layers.
        python: an interpreter that has llmcompressor.

    Raises:
        ValueError: it cannot be run.
    """
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for name, models in cases.items():
        for same in zip(*(_rows(case, python) for case in models), strict=True):
            cells = table[same[0].label]
            cells["bits"] = round(same[0].bits, 2)
            for inputs in _INPUTS:
                cells[f"{name}, {inputs}"] = round(fmean(x for row in same for x in row.sqnr[inputs]), 2)
    return dict(table)


def _rows(case: Case, python: str) -> Iterator[Row]:
    for ours in (False, True):
        basis = _transforms(case) if ours else {}
        for group in _GROUPS:
            label = f"llmcompressor, group {group}" + ", in our basis" * ours
            weights = _by_llmcompressor(case, basis, group, python)
            sqnr = {inputs: _sqnr(case, basis, weights, fmt) for inputs, fmt in _INPUTS.items()}
            yield Row(label, _BITS + _GROUP_BITS / group, sqnr)
    for rounding in (Rounding.NEAREST, Rounding.FEEDBACK):
        for block in _BLOCKS:
            scheme = _scheme(block, rounding)
            sqnr = {
                inputs: [*layer_sqnr(case, _quantized(case, replace(scheme, activation=fmt))).values()]
                for inputs, fmt in _INPUTS.items()
            }
            yield Row(f"ours, {rounding.value}, BLOCK={block}", _BITS + _BLOCK_BITS / block, sqnr)


def _scheme(block: int, rounding: Rounding) -> LinearScheme:
    return replace(DYNAMIC, weight=IntFormat(_BITS), smoothing=0.5, block=block, rounding=rounding)


def _quantized(case: Case, scheme: LinearScheme):
    model = copy.deepcopy(case.model)
    quantize_(model, scheme, statistics=case.statistics)
    return model


def _transforms(case: Case) -> dict[str, Transforms]:
    model = _quantized(case, _scheme(16, Rounding.NEAREST))
    return {name: model.get_submodule(name).transforms for name in case.samples}


def _by_llmcompressor(
    case: Case, basis: Mapping[str, Transforms], group: int, python: str
) -> dict[str, Tensor]:
    """The weights of the layers as they are multiplied, each in its basis if it has one."""
    layers = {}
    for name, sample in case.samples.items():
        weight, rows = sample.weight, case.statistics[name].inputs.load().float()
        if name in basis:
            weight, rows = basis[name].fuse(weight).float(), basis[name](rows).float()
        layers |= {f"{name}.weight": weight.contiguous(), f"{name}.rows": rows.contiguous()}
    with tempfile.TemporaryDirectory(prefix="gptq-") as folder:
        given, rounded = (Path(folder) / name for name in ("layers.safetensors", "rounded.safetensors"))
        save_file(layers, given)
        command = [python, _OTHER, given, rounded, str(group), str(_BITS)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ValueError(f"--gptq {python}: {error}") from None
        if run.returncode:
            said = (run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1]
            raise ValueError(f"--gptq {python}: {said}; {ENABLE}")
        return load_file(rounded)


def _sqnr(
    case: Case, basis: Mapping[str, Transforms], weights: Mapping[str, Tensor], fmt: IntFormat | None
) -> list[float]:
    """SQNR of every layer on its held-out inputs, quantized per token to `fmt` where there is one."""
    found = []
    for name, sample in case.samples.items():
        transforms = basis.get(name)
        h = sample.held_out if transforms is None else transforms(sample.held_out).float()
        if fmt is not None:
            scale = scale_for(h.abs().amax(dim=1, keepdim=True), fmt)
            h = quantize(h, scale, fmt) * scale
        y = h @ weights[name].T
        if transforms is not None and transforms.rotation_out is not None:
            y = rotate_back(y, transforms.rotation_out)
        found.append(output_sqnr(sample, y))
    return found
