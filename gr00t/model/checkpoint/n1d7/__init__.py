"""What a checkpoint of GR00T N1.7 says about its architecture."""
