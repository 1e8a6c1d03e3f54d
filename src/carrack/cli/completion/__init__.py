"""Shell completion: which words may come next, and the scripts that ask for them."""
