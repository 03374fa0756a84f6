"""The command `gr00t-evaluate`, from a checkout."""

from gr00t.cli.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
