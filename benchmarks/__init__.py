"""Scripts that measure the product beside a peer, in one run, and print JSON."""
