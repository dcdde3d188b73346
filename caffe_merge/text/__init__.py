"""Prototxt text: a lossless syntax tree, the typed view on it, and edits replayed on it."""
