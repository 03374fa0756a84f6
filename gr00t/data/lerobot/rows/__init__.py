"""The rows of a data set: its numbers and texts, and which frame each row sees."""
