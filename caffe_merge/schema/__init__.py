"""NetParameter and its messages, what their strings may hold, and a user's own schema."""
