"""From `GR00T_DUQUANT_*` variables to a quantized model, or to the list of a dry-run, told in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import nn

from gr00t.quantization.kernels.library import load as load_kernels
from gr00t.quantization.quantize import apply_plans, checked, decided
from gr00t.quantization.report import DuQuantReport
from gr00t.quantization.settings.environment import DuQuantConfig, DuQuantDryRunError, why_not_enabled
from gr00t.quantization.settings.selection import LayerPlan, check_plans, plan_layers

logger = logging.getLogger(__name__)


def enable_duquant_if_configured(
    model: nn.Module,
    environ: Mapping[str, str],
    aliases: Mapping[str, str] | None = None,
    defaults: DuQuantConfig | None = None,
) -> DuQuantReport | None:
    """Quantize `model` in place as the `GR00T_DUQUANT_*` entries of `environ` say.

    Args:
        model: with its weights loaded.
        environ: usually `os.environ`, passed in by the entry point. The kernels are compiled by its compiler,
            into its cache (`kernels.library.load`).
        aliases: other names of layers, by module name (`plan`).
        defaults: of the model's family, where `environ` says nothing: which layers, above all.

    Returns:
        The report, or None where nothing turns quantization on; the model is then untouched.

    Raises:
        DuQuantConfigError: settings that cannot be used.
        DuQuantSelectionError: settings that select nothing, or name layers that are not there.
        DuQuantDryRunError: DRYRUN=1: the layers are in the log, and the model is untouched.
    """
    config = DuQuantConfig.from_environ(environ, defaults)
    if config is None:
        logger.info("[GR00T-DUQUANT] DuQuant not enabled: %s", why_not_enabled(environ))
        return None
    return quantize_as_configured(model, config, environ, aliases)


def quantize_as_configured(
    model: nn.Module,
    config: DuQuantConfig,
    environ: Mapping[str, str],
    aliases: Mapping[str, str] | None = None,
) -> DuQuantReport:
    """Quantize `model` in place as `config` says; see `enable_duquant_if_configured`.

    Args:
        model: with its weights loaded.
        config: the settings.
        environ: whose compiler and cache the kernels come from.
        aliases: other names of layers, by module name.
    """
    if config.dry_run:
        list_layers(model, config, aliases)
        raise DuQuantDryRunError(
            "GR00T_DUQUANT_DRYRUN=1 asks for a list of layers, which is in the log; unset it to quantize them"
        )
    _log_settings(config)
    load_kernels(environ)
    return apply_plans(model, decided(model, _selected(model, config, aliases)), config)


def list_layers(
    model: nn.Module, config: DuQuantConfig, aliases: Mapping[str, str] | None = None
) -> list[LayerPlan]:
    """Log what a dry-run lists, and return it: the plan of every layer that would be quantized.

    Args:
        model: on `meta`, or with weights: they are not read.
        config: the settings.
        aliases: other names of layers, by module name.

    Raises:
        DuQuantSelectionError, ValueError: as when the model is quantized.
    """
    _log_settings(config)
    targets = _selected(model, config, aliases)
    for target in targets:
        logger.info("[GR00T-DUQUANT][DRYRUN] %s %s", target, target.asked)
    logger.info("[GR00T-DUQUANT] Dry-run total layers listed: %d", len(targets))
    return decided(model, targets)


def _selected(model: nn.Module, config: DuQuantConfig, aliases: Mapping[str, str] | None) -> list[LayerPlan]:
    """The plans of the layers that are taken, each by itself; with DEBUG the log has all of them."""
    scheme, layer_filter = config.scheme, config.layer_filter
    plans = plan_layers(model, scheme, layer_filter, aliases)
    if config.debug:
        for plan in plans:
            logger.info("[GR00T-DUQUANT][DEBUG] %s: %s", plan, plan.reason)
    logger.info("[GR00T-DUQUANT] SCOPE filter: %r", config.scope)
    check_plans(plans, scheme, layer_filter, debug=config.debug)
    targets = checked(plans, config.runtime)
    logger.info("[GR00T-DUQUANT] Matched Linear layers: %d", len(targets))
    return targets


def _log_settings(config: DuQuantConfig) -> None:
    """Say what a setting does not do, once."""
    if config.include_action_head is not None:
        logger.info(
            "[GR00T-DUQUANT] INCLUDE_ACTION_HEAD has no effect: INCLUDE decides which layers are taken"
        )
    by_layer = config.weight_bits_by_layer or config.act_bits_by_layer
    if config.weight_bits is None and config.act_bits is None and not by_layer:
        logger.warning(
            "[GR00T-DUQUANT] Weights and activations both stay in floating point: nothing is quantized"
        )
