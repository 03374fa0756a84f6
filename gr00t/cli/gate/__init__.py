"""Parts of `gr00t-drift`: its arms, what they are judged by, their answers, and what is told of them."""
