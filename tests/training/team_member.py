"""One of the processes of test_team.py: python -m torch.distributed.run ... team_member.py FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from gr00t.training.distributed import joined_team

with joined_team() as team:
    first, unused, second = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (2,)))
    first.grad = torch.arange(6.0).reshape(2, 3) * (team.rank + 1)
    second.grad = torch.tensor([-1.0, 8.0]) * team.rank
    figures = team.average([first, unused, second], {"loss": 2.0 + team.rank, "rate": 0.5})
    told = {"figures": figures, "first": first.grad.tolist(), "second": second.grad.tolist()}
    told["unused"] = unused.grad is not None
    (Path(sys.argv[1]) / f"{team.rank}.json").write_text(json.dumps(told))
