"""Which weights training moved, how far, and which can go."""
