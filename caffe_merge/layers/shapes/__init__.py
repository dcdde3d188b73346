"""Facts about shapes, layer type by layer type, exactly as Caffe computes them.

    tops           output shapes, from a layer and its input shapes
    blobs          shapes of the weights the layer wants
    multiply_adds  the cost of one forward pass

``None`` is "not known here", NetError is "Caffe would abort".
"""

from caffe_merge.layers.shapes.cost import multiply_adds
from caffe_merge.layers.shapes.learned import blobs
from caffe_merge.layers.shapes.outputs import tops

__all__ = ["blobs", "multiply_adds", "tops"]
