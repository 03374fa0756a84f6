"""The command in `gr00t.cli.harnesses.vla_eval`, from a checkout."""

from gr00t.cli.harnesses.vla_eval import main

if __name__ == "__main__":
    raise SystemExit(main())
