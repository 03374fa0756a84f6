"""Quantized layers as files: packs and artefacts, their manifests and checksums."""
