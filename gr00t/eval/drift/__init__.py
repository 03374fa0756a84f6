"""How far a quantized policy's actions are from the policy's own: a look before any simulator."""
