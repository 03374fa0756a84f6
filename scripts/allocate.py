"""The command `gr00t-allocate`, from a checkout."""

from gr00t.cli.allocate import main

if __name__ == "__main__":
    raise SystemExit(main())
