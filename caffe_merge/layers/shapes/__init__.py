"""Shapes and costs of layers, type by type, as Caffe computes them."""

from caffe_merge.layers.shapes.cost import multiply_adds
from caffe_merge.layers.shapes.learned import blobs
from caffe_merge.layers.shapes.rules import check_counts, tops

__all__ = ["blobs", "check_counts", "multiply_adds", "tops"]
