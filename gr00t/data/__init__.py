"""Between robot and model: metadata, embodiment tags, transforms."""
