"""The simulator: one environment in a process of its own, drawn and stepped as published evaluations do."""
