"""Parts of `gr00t-calibrate`."""
