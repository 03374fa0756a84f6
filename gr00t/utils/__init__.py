"""What programs written for Isaac-GR00T N1.5 import from its `gr00t.utils`, over this project's own parts."""
