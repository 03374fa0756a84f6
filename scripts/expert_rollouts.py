"""The command in `gr00t.cli.expert.expert_rollouts`, from a checkout."""

from gr00t.cli.expert.expert_rollouts import main

if __name__ == "__main__":
    raise SystemExit(main())
