"""How far this implementation is from NVIDIA's, by what was recorded from it (tests/golden).

    python -m scripts.bench.parity

The same weights, inputs and flow noise; the largest difference of one number. The last line is JSON.
"""

from __future__ import annotations

import json

import numpy as np
import torch

from examples.Libero.custom_data_config import LiberoDataConfig, LiberoDataConfigMeanStd
from gr00t.machine import describe_machine
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from gr00t.model.policy import Gr00tPolicy
from tests.data.recorded import SETS as PREPROCESSED
from tests.data.recorded import Recorded
from tests.model.gr00t_n1d7.recorded_set import TINY, RecordedSet
from tests.model.parity_set import PARITY, SETS, ParitySet

STEPS = (4, 8)


def network(parity: ParitySet) -> dict[str, float]:
    """Compare the chunk of actions that the network alone gives, in float32 and in bfloat16."""
    found = {}
    for steps in STEPS:
        golden = parity.golden[f"b1_n{steps}/action_pred"]
        found[f"network, float32, {steps} steps"] = largest(parity.act(1, steps), golden)
    half = GR00T_N1_5.from_pretrained(parity.folder, torch_dtype=torch.bfloat16)
    action = half.get_action(parity.inputs(1), noise=parity.noise(1))["action_pred"]
    found["network, bfloat16, 4 steps"] = largest(action, parity.golden["b1_n4_bf16/action_pred"])
    found["NVIDIA's bfloat16 against its float32"] = largest(
        parity.golden["b1_n4_bf16/action_pred"], parity.golden["b1_n4/action_pred"]
    )
    return found


def network_n1_7(recorded: RecordedSet) -> dict[str, float]:
    """Compare the chunk of actions of GR00T N1.7's network, in float32 and in bfloat16."""
    found, golden = {}, recorded.golden
    for steps in STEPS:
        expected = golden[f"b1_n{steps}/action_pred"]
        found[f"N1.7 network, float32, {steps} steps"] = largest(recorded.act(1, steps), expected)
    alone = torch.cat([golden[f"b3_solo{sample}_n4/action_pred"] for sample in range(3)])
    found["N1.7 network, float32, a padded batch against alone"] = largest(recorded.act(3), alone)
    half = Gr00tN1d7.from_pretrained(recorded.folder, torch_dtype=torch.bfloat16)
    action = half.get_action(recorded.inputs(1), noise=recorded.noise(1))["action_pred"]
    theirs = golden["b1_n4_bf16/action_pred"].float()
    found["N1.7 network, bfloat16, 4 steps"] = largest(action, theirs)
    found["NVIDIA's bfloat16 against its float32, N1.7"] = largest(theirs, golden["b1_n4/action_pred"])
    return found


def policy(recorded: Recorded) -> dict[str, float]:
    """Compare actions in a robot's units, from images, states and a sentence."""
    with np.load(PARITY / "tiny_e2e" / "golden.npz") as arrays:
        golden = dict(arrays)
    found = {}
    for kind, config in (("min_max", LiberoDataConfig()), ("mean_std", LiberoDataConfigMeanStd())):
        served = Gr00tPolicy(
            model_path=PARITY / "tiny_e2e",
            embodiment_tag="new_embodiment",
            modality_config=config.modality_config(),
            modality_transform=config.transform(),
            device="cpu",
            torch_dtype=torch.float32,
            tokenizer=recorded.tokenizer(),
            environ={},
        )
        for steps in STEPS:
            served.denoising_steps = steps
            found[f"policy, {kind}, float32, {steps} steps"] = max(
                largest(torch.from_numpy(value), torch.from_numpy(golden[f"{name}/{key}"]))
                for sample in range(3)
                for name in [f"f32_{kind}_n{steps}/sample{sample}"]
                for key, value in served.get_action(
                    recorded.single(sample), noise=golden["noise"][sample : sample + 1]
                ).items()
            )
    return found


def largest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest absolute difference."""
    return float((ours - theirs).abs().max())


def main() -> None:
    """Compare, print a table, and the same as JSON in the last line."""
    found = network(ParitySet.load(SETS[0])) | policy(Recorded.load(PREPROCESSED[0]))
    found |= network_n1_7(RecordedSet.load(TINY))
    print(describe_machine())
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value:.1e}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
