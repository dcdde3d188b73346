"""One layer by itself: its parameters and blobs, its shapes, and what it computes."""
