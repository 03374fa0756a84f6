"""The command in `gr00t.cli.checkpoints.make_demo_checkpoint`, from a checkout."""

from gr00t.cli.checkpoints.make_demo_checkpoint import main

if __name__ == "__main__":
    raise SystemExit(main())
