"""The command line: flags to calls, what is printed, exit statuses."""
