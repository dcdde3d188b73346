"""The files of the user: read as they are, never harmed, written both or neither."""
