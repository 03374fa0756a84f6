"""A whole evaluation: arms made ready, played, and reported."""
