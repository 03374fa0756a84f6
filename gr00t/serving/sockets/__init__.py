"""Below any message: addresses, connections, and who is at their other end."""
