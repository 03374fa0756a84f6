"""The frames of cameras: decoded from videos or images, and kept in a cache."""
