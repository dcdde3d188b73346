"""One merge from options to report: rewrites are found, proved, applied and written down."""
