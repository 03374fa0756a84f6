"""`quantize_` and `plan`: any `nn.Module`, quantized in place, or looked at first.

    from gr00t.quantization import IntFormat, LinearScheme, plan, quantize_

    scheme = LinearScheme(weight=IntFormat(4), activation=IntFormat(8), block=16, calibration_steps=0)
    plans = plan(model, scheme, filter_fn=lambda module, name: name != "head")   # changes nothing
    report = quantize_(model, scheme, filter_fn=lambda module, name: name != "head")

All layers are built before the first one is put in place, so a failure leaves the model as it was: it is
never served half quantized. Nothing is caught here; whoever starts a server dies with the error.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from torch import nn

from gr00t.quantization.building import build_layers
from gr00t.quantization.calibration.online import OnlineCalibration
from gr00t.quantization.calibration.record import read_record, record_sha256
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.kernels.library import load as load_kernels
from gr00t.quantization.numerics.hessian import DAMPING
from gr00t.quantization.numerics.statistics import InputStatistics, informed_by
from gr00t.quantization.profile import StageProfiler
from gr00t.quantization.propagation import propagate
from gr00t.quantization.replacing import put_in_place
from gr00t.quantization.report import DuQuantReport, model_bytes
from gr00t.quantization.settings.environment import DuQuantConfig
from gr00t.quantization.settings.layer_filter import LayerFilter
from gr00t.quantization.settings.options import Rounding, RowRotation
from gr00t.quantization.settings.scheme import LinearScheme, RuntimeOptions
from gr00t.quantization.settings.selection import (
    EVERY_LINEAR,
    DuQuantSelectionError,
    FilterFn,
    LayerPlan,
    check_plans,
    plan_layers,
)
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)

_W4A8, _AS_IT_RUNS = LinearScheme(), RuntimeOptions()


def plan(
    model: nn.Module,
    scheme: LinearScheme = _W4A8,
    filter_fn: FilterFn = EVERY_LINEAR,
    *,
    statistics: Mapping[str, InputStatistics] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> list[LayerPlan]:
    """Return what `quantize_` would do with every `nn.Linear` of `model`; nothing is changed.

    Args:
        model: any module, on any device, `meta` included: no weight is read.
        scheme: how layers are to be quantized.
        filter_fn: which of them, by the module and its name; a `LayerFilter` can say why. A layer that is in
            several places is taken if it is by all of its names (`selection.plan_layers`).
        statistics: of layers' inputs by name (`calibration.recording.record_inputs`).
        aliases: other names of layers, by module name, that a `LayerFilter` and the scheme know, too.

    Returns:
        In model order, a plan of every layer. One whose `spec` is None stays in floating point, and `reason`
        says why; subclasses of `nn.Linear` always do, and both layers of an `nn.TransformerEncoderLayer`:
        their owners read the weights. What statistics a folder of packs holds is known only once layers are
        built.

    Raises:
        DuQuantSelectionError: no layer is taken, or a name stands for none; or the model is itself a Linear.
        TypeError: an argument, or what `filter_fn` returns, is of another kind.
    """
    _check_arguments(model, scheme, filter_fn)
    plans = plan_layers(model, scheme, filter_fn, aliases)
    check_plans(plans, scheme, filter_fn)
    _check_statistics(statistics or {}, plans)
    return decided(model, plans, statistics)


def quantize_(
    model: nn.Module,
    scheme: LinearScheme = _W4A8,
    filter_fn: FilterFn = EVERY_LINEAR,
    *,
    statistics: Mapping[str, InputStatistics] | None = None,
    runtime: RuntimeOptions = _AS_IT_RUNS,
    aliases: Mapping[str, str] | None = None,
    on_layer: Callable[[], object] = lambda: None,
) -> DuQuantReport:
    """Replace linear layers of `model` by quantized ones, in place: all that `filter_fn` takes, or none.

    Args:
        model: any module, with its weights; they are only read.
        scheme: how layers are quantized.
        filter_fn: as for `plan`.
        statistics: as for `plan`; where they are None, those in the packs of `runtime.pack_dir` serve.
        runtime: how the layers run, and where they are kept.
        aliases: as for `plan`.
        on_layer: told after each layer, for a progress bar.

    Returns:
        What was done, with the layers.

    Raises:
        DuQuantSelectionError, TypeError: as `plan`.
        UnfinishedCalibrationError: the packs come from a calibration that did not end.
        ArtefactError: it is not known any more what the packs are (`checkpoint.pack_folder`).
        ValueError: a layer cannot be quantized; it is named, and the model is as before.
    """
    _check_kind("runtime", runtime, RuntimeOptions)
    plans = plan(model, scheme, filter_fn, statistics=statistics, aliases=aliases)
    if runtime.kernels is not None:
        load_kernels(runtime.kernels)
    if not isinstance(filter_fn, LayerFilter) or (filter_fn.include is None and not filter_fn.layers):
        filter_fn = LayerFilter(layers=[plan.name for plan in plans if plan.spec is not None])
    config = DuQuantConfig.describing(scheme, filter_fn, runtime)
    return apply_plans(model, plans, config, statistics, on_layer)


def _check_kind(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}={value!r}: expected {kind.__name__}")


def _check_arguments(model: object, scheme: object, filter_fn: object) -> None:
    _check_kind("model", model, nn.Module)
    _check_kind("scheme", scheme, LinearScheme)
    if not callable(filter_fn):
        raise TypeError(
            f"filter_fn={filter_fn!r}: expected a LayerFilter, or a function of a module and its name"
        )


def _check_statistics(statistics: Mapping[str, object], plans: Sequence[LayerPlan]) -> None:
    known = {plan.name for plan in plans}
    for name, seen in statistics.items():
        if name not in known:
            raise DuQuantSelectionError(
                f"statistics: no Linear is named {name!r}; {did_you_mean(name, known)}"
            )
        _check_kind(f"statistics[{name!r}]", seen, InputStatistics)


def decided(
    model: nn.Module, plans: Sequence[LayerPlan], statistics: Mapping[str, InputStatistics] | None = None
) -> list[LayerPlan]:
    """Return plans of layers by themselves with what their neighbours and statistics decide."""
    asked = [plan.asked for plan in plans if plan.asked is not None]
    if any(spec.row_rotation is RowRotation.PROPAGATE for spec in asked):
        plans = propagate(model, plans)
    known = statistics or {}
    return [
        plan
        if plan.spec is None
        else dataclasses.replace(plan, spec=informed_by(plan.spec, known.get(plan.name)))
        for plan in plans
    ]


def checked(plans: Sequence[LayerPlan], runtime: RuntimeOptions) -> list[LayerPlan]:
    """Return the plans of the layers that are quantized.

    Raises:
        ValueError: a layer cannot run as `runtime` says.
    """
    targets = []
    for plan in plans:
        if plan.spec is not None:
            runtime.check(plan.spec)
            targets.append(plan)
    return targets


def apply_plans(
    model: nn.Module,
    plans: Sequence[LayerPlan],
    config: DuQuantConfig,
    statistics: Mapping[str, InputStatistics] | None = None,
    on_layer: Callable[[], object] = lambda: None,
) -> DuQuantReport:
    """Do what `plan` has returned for `model`.

    Args:
        model: what the plans are of.
        plans: of its layers; those without a specification are left alone.
        config: what was asked for, as variables would say it.
        statistics: of the layers' inputs by name, if recorded just now; else those of PACKDIR serve.
        on_layer: told after each layer.

    Raises:
        UnfinishedCalibrationError: no `statistics` are given, and those of PACKDIR come from a calibration
            that did not end.
        ArtefactError: it is not known any more what the packs are.
        ValueError: a layer cannot be quantized; it is named, and the model is as before.
    """
    runtime = config.runtime
    targets = checked(plans, runtime)
    calibration = read_record(config.pack_dir) if statistics is None else None
    if config.row_rotation is RowRotation.PROPAGATE:
        _log_propagation(targets)
    store = PackStore(config.pack_dir, anew=statistics is not None)
    layers = build_layers(model, targets, store, statistics or {}, runtime, on_layer)
    report = DuQuantReport(
        config=config,
        layers=layers,
        linear_bytes_before=sum(p.nbytes for target in targets for p in target.linear.parameters()),
        model_bytes_before=model_bytes(model),
        model=model,
        packed=store.restored,
        layers_sha256=store.sha256,
        calibration_sha256=record_sha256(calibration),
    )
    put_in_place(model, targets, layers)
    if config.pack_dir is not None:
        found = f"{store.restored} of {len(layers)} layers restored"
        logger.info("[GR00T-DUQUANT] PACKDIR %s: %s", config.pack_dir, found)
    _log_smoothing(report)
    if calibration is not None:
        _log_calibration(report, calibration, store.damaged)
    logger.info("%s", report.memory_line())
    logger.info("%s", report.kernel_line())
    _log_rounding(report, store.kept)
    _calibrate_online(report, store)
    if config.profile:
        StageProfiler(layers, synchronize=config.profile_sync).start()
    return report


def _calibrate_online(report: DuQuantReport, store: PackStore) -> None:
    config = report.config
    waiting = {name: layer for name, layer in report.layers.items() if layer.is_calibrating}
    if not waiting:
        return

    def finished(names: list[str]) -> None:
        report.online_calibration = None  # and with it what was pooled
        for name in names:
            store.update(name, report.layers[name])
        report.layers_sha256 = store.sha256
        logger.info("%s", report.memory_line())
        _log_damping(report)

    logger.info(
        "[GR00T-DUQUANT] Activation scales of %d layers: dynamic per token while %d requests are pooled, "
        "then static at percentile %g; float weights stay until then. CALIB_STEPS=0 "
        "keeps per-token scales, 0.4 to 1 dB better at 8 bits (docs/QUALITY.md)",
        len(waiting),
        config.calibration_steps,
        config.act_percentile,
    )
    report.online_calibration = OnlineCalibration(
        report.model, waiting, config.calibration_steps, config.act_percentile, finished
    )


def _log_propagation(targets: Sequence[LayerPlan]) -> None:
    rotated = {target.absorbs: target.name for target in targets if target.absorbs is not None}
    for target in targets:
        if target.name in rotated:
            logger.info(
                "[GR00T-DUQUANT] ROW_ROT=propagate: %s stays rotated, %s absorbs it",
                target.name,
                rotated[target.name],
            )
    restored = len(targets) - len(rotated)
    logger.info("[GR00T-DUQUANT] ROW_ROT=propagate: the outputs of %d layers are restored", restored)


def _log_rounding(report: DuQuantReport, kept: Container[str]) -> None:
    """Say how weights are rounded, in how many layers; `kept`: whose packs know of inputs not read."""
    feedback = report.rounded_with_feedback
    nearest = len(report.layers) - feedback
    told = [f"with feedback in {feedback} layers"] * (feedback > 0)
    told += [f"to nearest in {nearest} layers"] * (nearest > 0)
    wanted = report.config.rounding is Rounding.FEEDBACK and nearest
    unread = [name for name in report.layers if name in kept] if wanted else []
    if unread:
        logger.warning(
            "[GR00T-DUQUANT] Weights rounded %s: what was recorded of the inputs of %d of these (%s) cannot "
            "be read; their packs stay as they are",
            ", ".join(told),
            len(unread),
            _some(unread),
        )
    else:
        why = ", of whose inputs no rows were recorded" if wanted else ""
        logger.info("[GR00T-DUQUANT] Weights rounded %s%s", ", ".join(told), why)
    _log_damping(report)


def _log_damping(report: DuQuantReport) -> None:
    """Name layers whose inputs took more damping than others."""
    for name, layer in report.layers.items():
        if layer.damping is not None and layer.damping > DAMPING:
            logger.warning(
                "[GR00T-DUQUANT] %s: damping %g leaves the Hessian of its inputs not positive; %g was needed",
                name,
                DAMPING,
                layer.damping,
            )


def _log_smoothing(report: DuQuantReport) -> None:
    smoothing = report.config.smoothing
    blind = len(report.layers) - report.informed
    if smoothing and blind:
        logger.info(
            "[GR00T-DUQUANT] LS=%g has no effect on %d layers: no statistics of their inputs were recorded",
            smoothing,
            blind,
        )


def _log_calibration(report: DuQuantReport, calibration: Mapping[str, Any], damaged: Container[str]) -> None:
    """Say how much this model uses of what scripts/calibrate.py left in PACKDIR.

    Args:
        report: of the model.
        calibration: what the file beside the packs says.
        damaged: the layers whose packs are.
    """
    logger.info(
        "[GR00T-DUQUANT] PACKDIR %s: calibrated %s by %s requests (%s); %d of %d layers use the statistics",
        report.config.pack_dir,
        calibration.get("date"),
        calibration.get("requests"),
        calibration.get("observations"),
        report.informed,
        len(report.layers),
    )
    lacking = {
        name: layer.is_calibrating
        for name, layer in report.layers.items()
        if layer.is_calibrating or not layer.spec.informed
    }
    if lacking:
        struck = [name for name in lacking if name in damaged]
        why = [f"has packs that are damaged or cannot be read ({_some(struck)})"] * bool(struck)
        why += ["was calibrated for other weights or settings"] * (len(struck) < len(lacking))
        logger.warning(
            "[GR00T-DUQUANT] PACKDIR %s: %d of %d layers lack statistics, %d lack static scales. Run "
            "scripts/calibrate.py with these settings",
            " and ".join(why),
            len(report.layers) - report.informed,
            len(report.layers),
            sum(lacking.values()),
        )


def _some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
