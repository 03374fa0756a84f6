"""What is in a checkpoint or in a set of demonstrations: found, drawn and told."""
