"""Checkpoints that lerobot 0.4.0 to 0.5.1 trained as policies of type `groot`: GR00T N1.5, other files.

lerobot has served no N1.5 since 0.6. What it does to an observation before the model and to an action after
it differs from NVIDIA's pipeline, and is followed here: `rules` reads it from the folder's files, `keys` says
under which names observations come, `transforms` does it.
"""
