"""What `gr00t-doctor` looks at."""
