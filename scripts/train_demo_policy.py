"""The command in `gr00t.training.demo.train_demo_policy`, from a checkout."""

from gr00t.training.demo.train_demo_policy import main

if __name__ == "__main__":
    raise SystemExit(main())
