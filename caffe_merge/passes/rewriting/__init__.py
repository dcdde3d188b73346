"""What the rewrites share: runs, branches and channels of a graph, and maps moved through it."""
