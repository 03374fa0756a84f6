"""The command `gr00t-export`, from a checkout."""

from gr00t.cli.export import main

if __name__ == "__main__":
    raise SystemExit(main())
