"""The command `gr00t-train`, from a checkout."""

from gr00t.cli.train import main

if __name__ == "__main__":
    raise SystemExit(main())
