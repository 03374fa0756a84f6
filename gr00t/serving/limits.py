"""How much a server takes at once, where nobody says otherwise."""

from __future__ import annotations

# On a CPU 8, 16 and 32 cost the same per answer (docs/BENCHMARKS.md); a GPU has more to gain from more.
DEFAULT_MAX_BATCH = 16
