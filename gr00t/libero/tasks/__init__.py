"""The suites of LIBERO and their tasks, read without importing LIBERO."""
