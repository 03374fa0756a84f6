"""LIBERO-PRO: each task of four suites again, with one thing changed: what has a policy learned by heart?

What each perturbation does was found by comparing all 160 problems with those of LIBERO, section by section;
`tests/libero/tasks/test_libero_pro.py` compares them again. The recorded initial states are new in all of
them, so that no episode of a perturbed suite is one of its base suite with something changed.

Standard library only: scripts ask before anything is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

PERTURBED = ("libero_spatial", "libero_object", "libero_goal", "libero_10")


class Perturbation(NamedTuple):
    """What is changed in every task of a suite.

    Attributes:
        title: For tables.
        effect: For people.
    """

    title: str
    effect: str


# By the ending of the suite's name.
PERTURBATIONS = {
    "lan": Perturbation("other words", "the instruction in other words, and nothing else"),
    "object": Perturbation(
        "other looks",
        "what the task is about has another colour or 1.5 times the size, or is another object, while the "
        "instruction stays",
    ),
    "swap": Perturbation("places swapped", "one or two pairs of objects or fixtures have changed places"),
    "task": Perturbation("other task", "another goal in the same scene, with the instruction for it"),
}

# Objects and fixtures that LIBERO has not, after the one whose shape each has. All are recoloured (one of
# them, called black_bowl, is white) but for two, which are larger.
VARIANTS = {
    "bigger_alphabet_soup": "alphabet_soup",
    "blue_ketchup": "ketchup",
    "green_bbq_sauce": "bbq_sauce",
    "green_butter": "butter",
    "green_chocolate_pudding": "chocolate_pudding",
    "red_cream_cheese": "cream_cheese",
    "red_salad_dressing": "salad_dressing",
    "yellow_milk": "milk",
    "yellow_tomato_sauce": "tomato_sauce",
    "bigger_akita_black_bowl": "akita_black_bowl",
    "black_bowl": "akita_black_bowl",
    "red_basket": "basket",
    "yellow_plate": "plate",
    "brown_rack": "wine_rack",
    "white_bottle": "wine_bottle",
    "yellow_moka_pot": "moka_pot",
    "yellow_cabinet": "wooden_cabinet",
    "yellow_stove": "flat_stove",
}
BIGGER = 1.5


def perturbed(base: str, perturbation: str) -> str:
    """Name of the suite that has the tasks of `base` under one of `PERTURBATIONS`."""
    return f"{base}_{perturbation}"


def split_suite(name: str) -> tuple[str, str]:
    """Base suite and perturbation of a suite; the suite itself and an empty string for any other."""
    base, _, perturbation = name.rpartition("_")
    return (base, perturbation) if base in PERTURBED and perturbation in PERTURBATIONS else (name, "")


def suite_title(name: str) -> str:
    """A suite as tables name it: `libero_object_swap (places swapped)`."""
    perturbation = split_suite(name)[1]
    return f"{name} ({PERTURBATIONS[perturbation].title})" if perturbation else name


def listed(names: Iterable[str]) -> str:
    """Names of suites for a message; where all perturbations of a suite are among them, in a few words."""
    given = list(names)
    complete = [base for base in PERTURBED if {perturbed(base, each) for each in PERTURBATIONS} <= {*given}]
    short = [name for name in given if not (split_suite(name)[1] and split_suite(name)[0] in complete)]
    endings = ", ".join(f"_{perturbation}" for perturbation in PERTURBATIONS)
    return ", ".join(short) + (f"; {', '.join(complete)} with {endings}" if complete else "")
