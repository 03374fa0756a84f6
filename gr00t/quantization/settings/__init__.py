"""What a user may choose: variables, schemes, and which layers they hold for."""
