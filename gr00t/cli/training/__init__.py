"""Parts of `gr00t-train`: flags, plans, data and processes."""
