"""The same server and client over HTTP, for robots whose network lets nothing else through."""
