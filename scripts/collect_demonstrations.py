"""The command in `gr00t.cli.expert.collect_demonstrations`, from a checkout."""

from gr00t.cli.expert.collect_demonstrations import main

if __name__ == "__main__":
    raise SystemExit(main())
