"""Prototxt text: a lossless syntax tree, typed messages from it, edits replayed on it."""
