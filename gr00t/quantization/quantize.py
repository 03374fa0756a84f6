"""From settings to a quantized model.

All layers are built before the first one is put in place, so a failure leaves the model as it was: it is
never served half quantized. Nothing is caught here; whoever starts a server dies with the error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from gr00t.quantization.building import build_layers
from gr00t.quantization.calibration.online import OnlineCalibration
from gr00t.quantization.calibration.record import read_record, record_sha256
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.kernels.library import load as load_kernels
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.profile import StageProfiler
from gr00t.quantization.propagation import plan_propagation
from gr00t.quantization.replacing import put_in_place
from gr00t.quantization.report import DuQuantReport, model_bytes
from gr00t.quantization.settings.environment import DuQuantConfig, why_not_enabled
from gr00t.quantization.settings.options import RowRotation
from gr00t.quantization.settings.selection import Verdict, judge_layers, select_targets

logger = logging.getLogger(__name__)


class DuQuantDryRun(SystemExit):
    """GR00T_DUQUANT_DRYRUN=1: the layers are listed, and the program ends with status 0 before it can serve
    anything.
    """

    def __init__(self) -> None:
        super().__init__(0)


def enable_duquant_if_configured(
    model: nn.Module, environ: Mapping[str, str], aliases: Mapping[str, str] | None = None
) -> DuQuantReport | None:
    """Quantize `model` in place as the `GR00T_DUQUANT_*` entries of `environ` say.

    Args:
        model: with its weights loaded, or on `meta` for a dry-run.
        environ: usually `os.environ`, passed in by the entry point. The kernels are compiled by its compiler,
            into its cache (`kernels.library.load`).
        aliases: other names of layers, by module name (`select_targets`).

    Returns:
        The report, or None where nothing turns quantization on; the model is then untouched.

    Raises:
        DuQuantConfigError: settings that cannot be used.
        DuQuantSelectionError: settings that select nothing, or name layers that are not there.
        DuQuantDryRun: a dry-run was asked for, and is done.
    """
    config = DuQuantConfig.from_environ(environ)
    if config is None:
        logger.info("[GR00T-DUQUANT] DuQuant not enabled: %s", why_not_enabled(environ))
        return None
    _log_settings(config)
    if not config.dry_run:
        load_kernels(environ)
    if config.debug:
        for verdict in judge_layers(model, config, aliases):
            logger.info("[GR00T-DUQUANT][DEBUG] %s: %s", verdict, verdict.reason)
    logger.info("[GR00T-DUQUANT] SCOPE filter: %r", config.scope)
    targets = select_targets(model, config, aliases)
    logger.info("[GR00T-DUQUANT] Matched Linear layers: %d", len(targets))
    if config.dry_run:
        for target in targets:
            logger.info("[GR00T-DUQUANT][DRYRUN] %s %s", target, target.spec)
        logger.info("[GR00T-DUQUANT] Dry-run total layers listed: %d", len(targets))
        raise DuQuantDryRun
    return wrap_duquant(model, targets, config)


def wrap_duquant(
    model: nn.Module,
    targets: list[Verdict],
    config: DuQuantConfig,
    statistics: Mapping[str, InputStatistics] | None = None,
) -> DuQuantReport:
    """Replace `targets`, selected from `model` by `select_targets`, with quantized layers: all or none.

    Args:
        model: the model.
        targets: its layers, with their specifications.
        config: the settings.
        statistics: of the layers' inputs by name, if recorded just now; else those of PACKDIR serve.

    Raises:
        UnfinishedCalibrationError: no `statistics` are given, and those of PACKDIR come from a calibration
            that did not end.
        ValueError: a layer cannot be quantized; it is named, and the model is as before.
    """
    calibration = read_record(config.pack_dir) if statistics is None else None
    absorbers: dict[str, str] = {}
    if config.row_rotation is RowRotation.PROPAGATE:
        targets, absorbers = plan_propagation(model, targets)
    store = PackStore(config.pack_dir)
    layers = build_layers(model, targets, absorbers, store, statistics or {})
    for layer in layers.values():
        layer.keep_unpacked = config.precache_weights
        layer.refuse_nonfinite = config.debug
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
        _log_calibration(report, calibration)
    logger.info("%s", report.memory_line())
    logger.info("%s", report.kernel_line())
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


def _log_settings(config: DuQuantConfig) -> None:
    """Say what a setting does not do, once."""
    if config.include_action_head is not None:
        logger.info(
            "[GR00T-DUQUANT] INCLUDE_ACTION_HEAD has no effect: INCLUDE decides which layers are taken"
        )
    if config.weight_bits is None and config.act_bits is None and not config.weight_bits_by_layer:
        logger.warning(
            "[GR00T-DUQUANT] Weights and activations both stay in floating point: nothing is quantized"
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


def _log_calibration(report: DuQuantReport, calibration: Mapping[str, Any]) -> None:
    """Say how much of what scripts/calibrate.py left in PACKDIR this model uses."""
    logger.info(
        "[GR00T-DUQUANT] PACKDIR %s: calibrated %s by %s requests (%s); %d of %d layers use the statistics",
        report.config.pack_dir,
        calibration.get("date"),
        calibration.get("requests"),
        calibration.get("observations"),
        report.informed,
        len(report.layers),
    )
    waiting = sum(layer.is_calibrating for layer in report.layers.values())
    if waiting or report.informed < len(report.layers):
        logger.warning(
            "[GR00T-DUQUANT] PACKDIR was calibrated for other weights or settings: %d of %d layers lack "
            "statistics, %d lack static scales. Run scripts/calibrate.py with these settings",
            len(report.layers) - report.informed,
            len(report.layers),
            waiting,
        )
