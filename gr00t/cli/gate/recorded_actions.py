"""Without arms: predicted actions compared with recorded ones, by the command that does so."""

from __future__ import annotations

from typing import Any

from gr00t.cli.errors import UsageError
from gr00t.cli.gate.arguments import DriftArguments, check_first
from gr00t.cli.gate.material import held_out_episodes
from gr00t.cli.prediction.arguments import OpenLoopArguments
from gr00t.cli.prediction.comparison import evaluate


def follow_recorded(arguments: DriftArguments) -> dict[str, Any]:
    """Follow the held-out episodes of a data set; print, draw and return the errors by action key.

    Raises:
        UsageError: flags that make no sense, or episodes that are not in a row.
    """
    check_first(arguments)
    from gr00t.data.lerobot.meta.layout import Layout

    path = arguments.data
    assert path is not None
    numbers = [episode.index for episode in Layout.read(path).episodes]
    held_out = held_out_episodes(arguments.episodes, numbers, str(path))
    if held_out != list(range(held_out[0], held_out[0] + len(held_out))):
        raise UsageError(f"--episodes {arguments.episodes}: without --arms, expected some in a row, as 40-49")
    return evaluate(
        OpenLoopArguments(
            dataset_path=path,
            model_path=arguments.model,
            host=arguments.host,
            port=arguments.port or OpenLoopArguments.port,
            api_token=arguments.api_token,
            data_config=arguments.data_config,
            embodiment_tag=arguments.embodiment_tag or OpenLoopArguments.embodiment_tag,
            denoising_steps=arguments.denoising_steps,
            device=arguments.device,
            dtype=arguments.dtype,
            base=arguments.base,
            tokenizer=arguments.tokenizer,
            prompt_style=arguments.prompt_style,
            start_traj=held_out[0],
            trajs=len(held_out),
            steps=arguments.steps,
            action_horizon=arguments.executed,
            seed=arguments.seed,
            save_plot_path=str(arguments.plot),
        )
    )
