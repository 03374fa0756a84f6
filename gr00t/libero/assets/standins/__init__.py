"""Stand-ins: objects and rooms with the numbers of LIBERO and looks of our own."""
