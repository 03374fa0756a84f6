"""The command in `gr00t.training.demo.collect_scenes`, from a checkout."""

from gr00t.training.demo.collect_scenes import main

if __name__ == "__main__":
    raise SystemExit(main())
