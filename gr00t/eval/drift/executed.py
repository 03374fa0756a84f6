"""How much of a chunk counts, where nobody says otherwise. Imports nothing: it is a flag's default."""

# Actions of a chunk that a robot executes before it asks again.
EXECUTED = 8
