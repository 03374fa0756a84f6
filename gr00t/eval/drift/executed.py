"""How much of a chunk counts, where nobody says otherwise. Imports nothing: flags have it as their default."""

# Actions of a chunk that a robot executes before it asks again.
EXECUTED = 8
