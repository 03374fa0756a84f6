"""The margin of non-inferiority where none is given: read by commands before anything heavy is imported."""

DEFAULT_MARGIN = 3.0  # percentage points
