"""The checkpoints that were published for LIBERO's suites, and the data configurations that go with them.

Standard library only: scripts ask before anything is installed.
"""

from __future__ import annotations

from gr00t.libero.tasks.perturbations import split_suite
from gr00t.libero.tasks.suites import SUITES

# Suites that have a checkpoint, which plays their perturbations, too; the prompts are played by the policy of
# this repository.
PUBLISHED = tuple(
    name for name, suite in SUITES.items() if name != "libero_object_prompts" and not suite.perturbation
)


def suite_model(suite: str) -> str:
    """Return the published fine-tune of NVIDIA's base model for a suite, as its hub id."""
    short = split_suite(suite)[0].removeprefix("libero_")
    return f"youliangtan/gr00t-n1.5-libero-{'long' if short == '10' else short}-posttrain"


def suite_data_config(suite: str) -> str:
    """Return its data configuration: the goal checkpoint has mean/std statistics, the others min/max."""
    name = "LiberoDataConfigMeanStd" if split_suite(suite)[0] == "libero_goal" else "LiberoDataConfig"
    return f"examples.Libero.custom_data_config:{name}"
