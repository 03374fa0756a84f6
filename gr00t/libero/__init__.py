"""The world of the LIBERO benchmark: tasks, assets, simulator, scripted expert. Knows no policy."""
