"""Demonstrations in the LeRobot v2 layout, with the `meta/modality.json` by which Isaac-GR00T N1.5 reads it.

meta/info.json                      how many, frames per second, the features and the two path patterns
meta/episodes.jsonl                 length and instruction of each episode
meta/tasks.jsonl                    the instructions by number
meta/modality.json                  which columns are which states and actions, which videos which cameras
data/chunk-000/episode_000000.parquet
videos/chunk-000/observation.images.image/episode_000000.mp4
"""
