"""Serving a policy and driving it: the wire format, the client, the server. Imports nothing by itself."""
