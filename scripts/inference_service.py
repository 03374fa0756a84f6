"""The command `gr00t-serve`, from a checkout."""

from gr00t.cli.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
