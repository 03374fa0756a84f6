"""Between an observation and the network: images, prompt and state as GR00T N1.5 was trained with them."""
