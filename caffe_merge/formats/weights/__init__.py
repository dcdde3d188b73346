"""Caffemodel and HDF5 files: an index of their blobs, and writers that stream."""
