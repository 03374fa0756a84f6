"""The command `gr00t-scan`, from a checkout."""

from gr00t.cli.scan import main

if __name__ == "__main__":
    raise SystemExit(main())
