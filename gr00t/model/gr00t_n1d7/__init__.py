"""GR00T N1.7, under NVIDIA's import path: Qwen3-VL, and a DiT that reads text and images in turn."""
