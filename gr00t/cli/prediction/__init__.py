"""The command that compares predicted actions with recorded ones: its flags, the policy, the comparison."""
