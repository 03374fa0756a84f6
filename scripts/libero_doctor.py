"""The command `gr00t-doctor`, from a checkout."""

from gr00t.cli.doctor import main

if __name__ == "__main__":
    raise SystemExit(main())
