"""What the `meta` folder of a data set says: layout, episodes, tasks, modalities; and its faults."""
