"""What only the demonstration policy needs."""
