"""Other projects' harnesses, played here with this project's LIBERO, and the results that they write."""
