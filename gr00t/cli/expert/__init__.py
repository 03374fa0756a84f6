"""Commands that let the scripted expert play: whether tasks can be solved, and demonstrations to train on."""
