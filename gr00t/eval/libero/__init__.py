"""LIBERO behind one small interface: suites, assets, the simulator in its own process, episodes, records."""
