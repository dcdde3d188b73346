"""Many pairs: found in folders and lists, merged by worker processes, written down as they end."""
