"""The command in `gr00t.cli.finetune`, from a checkout."""

from gr00t.cli.finetune import main

if __name__ == "__main__":
    raise SystemExit(main())
