"""The command `gr00t-compare`, from a checkout."""

from gr00t.cli.compare import main

if __name__ == "__main__":
    raise SystemExit(main())
