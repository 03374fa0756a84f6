"""The command in `gr00t.training.demo.train_grounding`, from a checkout."""

from gr00t.training.demo.train_grounding import main

if __name__ == "__main__":
    raise SystemExit(main())
