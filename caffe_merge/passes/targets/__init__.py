"""The readers of Caffe pairs: a table of what each refuses, held against a net."""
