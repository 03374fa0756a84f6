"""Parts of `gr00t-allocate`: its flags, the policy with some layers quantized, and the program."""
