"""A whole net: loaded from its files, as a graph, and saved."""
