"""A policy over WebSocket: the protocol on one connection, and the server that several wires share."""
