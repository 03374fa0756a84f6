"""Judging policies: episodes, statistics, reports; and the import paths of Isaac-GR00T N1.5's service."""
