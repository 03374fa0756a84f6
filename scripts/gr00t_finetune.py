"""The command in `gr00t.cli.training.finetune`, from a checkout."""

from gr00t.cli.training.finetune import main

if __name__ == "__main__":
    raise SystemExit(main())
