"""Commands that write a checkpoint: one of random weights, or an adapter merged into its base."""
