"""Serving a policy and asking it: server, batching, clients. Imports nothing by itself."""
