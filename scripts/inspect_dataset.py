"""The command `gr00t-inspect`, from a checkout."""

from gr00t.cli.inspection.dataset import main

if __name__ == "__main__":
    raise SystemExit(main())
