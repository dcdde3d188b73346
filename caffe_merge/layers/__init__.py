"""One layer by itself: its parameters and blobs, its shapes, and the map that it computes."""
