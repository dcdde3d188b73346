"""Tests of caffe_merge: each folder tests the package's folder of its name.

Beside these are

- nets.py: a net from a few words, with seeded weights, as an object or as files. Begin here.
- merger.py: ``merged``, the fixture that merges a net and checks all that must hold for any merge.
- real_caffe.py: Caffe itself as a judge, the fixture ``real_caffe``; conftest.py has both fixtures.
- seeds.py: where random tests take their examples from; `make fuzz` gives them fresh ones.
- test_random_*.py: random nets, judged by the reference engine and by Caffe.
- corpus/ and corpus.json: files that people published, and what is expected of each.
- test_*.py here: the package as a whole: its API, its building, its pages, bad files.

`make test` runs all, `make test TESTS=tests/passes` a part.
"""
