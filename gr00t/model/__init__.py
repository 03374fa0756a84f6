"""GR00T N1.5: configuration, modules, checkpoint files and the policy around them. Imports nothing itself."""
