"""The command in `gr00t.cli.expert.collect_takeovers`, from a checkout."""

from gr00t.cli.expert.collect_takeovers import main

if __name__ == "__main__":
    raise SystemExit(main())
