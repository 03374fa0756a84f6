"""The command that serves, in its two halves: the server, and the client that tries one."""
