"""The command `gr00t-calibrate`, from a checkout."""

from gr00t.cli.calibrate import main

if __name__ == "__main__":
    raise SystemExit(main())
