"""Meshes and textures for the simulator: LIBERO's own where they are, stand-ins where not."""
