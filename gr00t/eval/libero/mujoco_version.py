"""The MuJoCo that LIBERO's published results were made with, and what another one makes of it.

From 3.4 on contacts between boxes are computed otherwise. A bowl that sat on a ramekin then hangs beside it,
and cartons that are recorded 3 cm deep in the table are thrown 40 to 60 cm up and still fall when an
evaluation begins. From 3.3.3 on LIBERO's own floor is drawn darker.
"""

from __future__ import annotations

import functools
import logging

logger = logging.getLogger(__name__)

MUJOCO = "3.3.2"


# Tasks whose objects settle otherwise under 3.8.1, by ten recorded states each: in all of them, or in one or
# two (a difference of 2 to 10 mm; 40 and 280 mm in libero_10). Tasks of libero_object and libero_goal: none.
# scripts/libero_doctor.py --settle SUITE, 2026-11-30, 2 cores of an AMD EPYC.
DIFFERENT_UNDER_3_8_1 = "libero_spatial 5, libero_10 0, 1 and 7"
SOMETIMES_DIFFERENT_UNDER_3_8_1 = "libero_spatial 0, 2, 4 and 8, libero_10 6"


@functools.cache
def warn_of_other_mujoco(version: str) -> None:
    """Log a warning, once for each version, where `version` is not the benchmark's."""
    if version != MUJOCO:
        logger.warning(
            "MuJoCo %s may play another benchmark than LIBERO's, which is that of MuJoCo %s: under 3.8.1 "
            "objects start elsewhere in tasks %s, and from some initial states of %s. What this one does: "
            "scripts/libero_doctor.py --settle SUITE. Results of different versions are not compared. The "
            "benchmark's comes by scripts/setup_env.sh libero",
            version,
            MUJOCO,
            DIFFERENT_UNDER_3_8_1,
            SOMETIMES_DIFFERENT_UNDER_3_8_1,
        )
