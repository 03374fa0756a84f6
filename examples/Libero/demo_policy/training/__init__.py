"""How the demonstration policy is made: data, losses beside flow matching, and a program for each part."""
