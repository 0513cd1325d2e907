"""``filoray chaos``: scenarios played against real processes, and what is told of them."""
