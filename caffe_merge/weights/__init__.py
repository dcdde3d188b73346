"""Caffemodel files: an index over the wire format, lazily valued blobs, a streaming writer."""
