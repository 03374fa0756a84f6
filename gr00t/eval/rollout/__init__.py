"""Playing episodes: the plan, who acts, the simulators at work, the records."""
