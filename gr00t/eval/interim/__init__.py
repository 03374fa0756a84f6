"""A run that is looked at on its way: in which order it plays, when it is looked at, what was seen."""
