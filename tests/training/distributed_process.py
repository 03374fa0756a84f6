"""One of the processes of test_distributed.py: python -m torch.distributed.run ... FILE FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from gr00t.training.distributed import joined_process_group

with joined_process_group() as group:
    first, unused, second = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (2,)))
    first.grad = torch.arange(6.0).reshape(2, 3) * (group.rank + 1)
    second.grad = torch.tensor([-1.0, 8.0]) * group.rank
    figures = group.average([first, unused, second], {"loss": 2.0 + group.rank, "rate": 0.5})
    told = {"figures": figures, "first": first.grad.tolist(), "second": second.grad.tolist()}
    told["unused"] = unused.grad is not None
    (Path(sys.argv[1]) / f"{group.rank}.json").write_text(json.dumps(told))
