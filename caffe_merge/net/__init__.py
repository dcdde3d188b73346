"""A whole net: loaded from its files, joined with its weights, as a graph, and saved."""
