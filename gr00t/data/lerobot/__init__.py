"""Demonstrations in LeRobot's v2 and v3 layouts, read as Isaac-GR00T N1.5 reads them.

v2: a file an episode

    meta/info.json                      how many, frames per second, the features and the two path patterns
    meta/episodes.jsonl                 number and length of each episode
    meta/tasks.jsonl                    the instructions by number
    meta/modality.json                  which columns are which states and actions, which videos which cameras
    data/chunk-000/episode_000000.parquet
    videos/chunk-000/observation.images.image/episode_000000.mp4

v3: many episodes a file

    meta/info.json, meta/modality.json  as above
    meta/episodes/chunk-000/file-000.parquet    which episode is in which file, and where in a video
    meta/tasks.parquet
    data/chunk-000/file-000.parquet
    videos/observation.images.image/chunk-000/file-000.mp4

`meta/modality.json` is NVIDIA's addition; what a set offers without it, see `default_modality`. Cameras may
be columns of PNG or JPEG images instead of videos. Everything that is wrong with a set is found at once, see
`check.find_faults`.
"""
