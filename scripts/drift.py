"""The command in `gr00t.cli.drift`, from a checkout."""

from gr00t.cli.drift import main

if __name__ == "__main__":
    raise SystemExit(main())
