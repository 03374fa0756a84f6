"""What benchmarks send and expect, in a policy's words: robots, images, and the wires of two harnesses."""
