"""The command in `gr00t.cli.open_loop`, from a checkout."""

from gr00t.cli.open_loop import main

if __name__ == "__main__":
    raise SystemExit(main())
