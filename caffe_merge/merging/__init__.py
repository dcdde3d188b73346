"""One merge from options to report: what passes find is proved, applied and written down."""
