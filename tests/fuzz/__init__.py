"""Fuzzing of the readers: targets, a corpus made of the tests' own inputs, atheris where it is."""
