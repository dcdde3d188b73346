"""Pages to look at, one HTML file each: of a merge, of one net, of a batch."""
