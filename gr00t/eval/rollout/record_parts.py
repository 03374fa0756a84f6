"""The parts of an episode's record, checked when made: which one, under what, what came of it, how long.

Strict: a line may have been edited, and a number that is none of that kind is no number of ours.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, StrictStr

from gr00t.eval.arms.checked import Amount, ArmName, Count, Positive


class EpisodeKey(NamedTuple):
    """What makes an episode the same one: a run holds each at most once.

    Attributes:
        arm: Name of what acted; pairs are formed between arms, over all else.
        suite: LIBERO's suite.
        task: Number of the task in its suite.
        init_state: Number of the recorded initial state.
        seed: Seed of the evaluation: of the fixtures' placement and of the policy's noise.
    """

    arm: ArmName
    suite: StrictStr
    task: Count
    init_state: Count
    seed: Count

    @property
    def episode(self) -> str:
        """All but the arm, for a message."""
        return f"{self.suite} task {self.task}, initial state {self.init_state}, seed {self.seed}"


class _Part(BaseModel):
    """A part of a record: exactly these fields, as they are written, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ArmConditions(_Part):
    """What all episodes of an arm are played under.

    Attributes:
        assets: Kind of the meshes and textures: `folder`, `packages`, `installed`, `hub` or `stand-ins`.
        assets_fingerprint: Short hash of them.
        rendering: How images are drawn, `full` or a lighter way.
        placement: Where the initial states come from; `recorded` are LIBERO's own.
        gl_backend: Library that drew.
        denoising_steps: Of the policy, where known.
        quantized_layers: Of the policy, where known.
        server: Its address, or what stands in its place.
        versions: Of the packages that produced the episode.
        identity: Short hash of all that the arm was, `gr00t.serving.identity`; None in records of a time
            that had none.
    """

    assets: str
    assets_fingerprint: str
    rendering: str
    placement: str
    gl_backend: str
    denoising_steps: Positive | None
    quantized_layers: Count | None
    server: str
    versions: dict[str, str]
    identity: str | None


class EpisodeConditions(ArmConditions):
    """What an episode is played under.

    Attributes:
        task_name: LIBERO's name of the task.
        language: The instruction.
        replan_steps: Actions executed per query.
        max_steps: Steps after which the episode has failed.
    """

    task_name: str
    language: str
    replan_steps: Positive
    max_steps: Positive


class EpisodeOutcome(_Part):
    """What came of an episode.

    Attributes:
        success: None when the simulator failed twice: that is no failure of the robot.
        steps: Control steps until success or the limit.
        lifted_wrong: The first object lifted by 4 cm that the task does not speak of, None without any.
        queries: Requests to the policy.
        simulator_error: What the simulator said when it failed, also when the second attempt went well.
        retried: Whether there was a second attempt.
        jerk: Mean length of the second difference of the executed motions.
        gripper_switches: How often the gripper was told the opposite; None in records of before.
        seam_jump: Mean length of the step of the motion from one chunk to the next; None without a seam.
        actions: The executed actions, (N, 7) float32 as .npy: path within the run's folder, or None.
        actions_hash: Short SHA-256 of the executed actions; equal for two runs that did the very same.
        video: Path within the run's folder, or None.
        thumbnail: The last view of the agent's camera, likewise.
    """

    success: bool | None
    steps: Count
    lifted_wrong: str | None
    queries: Count
    simulator_error: str | None
    retried: bool
    jerk: Amount
    gripper_switches: Count | None
    seam_jump: Amount | None
    actions: str | None
    actions_hash: str | None
    video: str | None
    thumbnail: str | None


class EpisodeTiming(_Part):
    """What an episode took.

    Attributes:
        wall_seconds: Time that it took, retries included.
        query_ms: Milliseconds of each query, measured by the client, to 0.1 ms.
        simulator_ms_per_step: Mean of the physics.
        render_ms_per_image: Mean of the drawing.
    """

    wall_seconds: Amount
    query_ms: list[Amount]
    simulator_ms_per_step: Amount
    render_ms_per_image: Amount
