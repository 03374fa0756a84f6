"""The command in `gr00t.cli.checkpoints.merge_adapter`, from a checkout."""

from gr00t.cli.checkpoints.merge_adapter import main

if __name__ == "__main__":
    raise SystemExit(main())
