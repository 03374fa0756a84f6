"""The blocks that networks of this family are made of."""
