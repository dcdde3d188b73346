"""What the scripts do that people fold BatchNorm with: load in pycaffe, fold, save. No check.

TEXT WEIGHTS DEPLOY OUT, under any Python with Caffe: DEPLOY is the text without BatchNorm and
Scale, which such scripts want from their user; OUT gets its weights. For nets whose BatchNorm and
Scale stand behind a Convolution each: y = (x - mean / f) / sqrt(var / f + eps), times the scale.
"""

import sys

import caffe
import numpy as np

EPS = 1e-5

text, weights, deploy, out = sys.argv[1:]
net = caffe.Net(text, caffe.TEST, weights=weights)
folded = caffe.Net(deploy, caffe.TEST)
kinds = dict(zip(net._layer_names, (layer.type for layer in net.layers)))

behind = {}  # a convolution -> the BatchNorm and the Scale that follow it
writer = {}  # a blob -> the layer that wrote it last, per-channel layers aside
for name, kind in kinds.items():
    bottoms, tops = net.bottom_names[name], net.top_names[name]
    source = writer.get(bottoms[0]) if bottoms else None
    if kind in ("BatchNorm", "Scale") and source is not None:
        behind.setdefault(source, {})[kind] = name
    writer.update(dict.fromkeys(tops, source if kind in ("BatchNorm", "Scale") else name))

for name, blobs in folded.params.items():
    kernel = net.params[name][0].data
    bias = net.params[name][1].data if len(net.params[name]) > 1 else 0.0
    if "BatchNorm" in behind.get(name, ()):
        mean, variance, factor = (blob.data for blob in net.params[behind[name]["BatchNorm"]])
        gain = 1 / np.sqrt(variance / factor[0] + EPS)
        shift = -mean / factor[0] * gain
        if "Scale" in behind[name]:
            scale = net.params[behind[name]["Scale"]]
            gain, shift = gain * scale[0].data, shift * scale[0].data + scale[1].data
        kernel, bias = kernel * gain[:, None, None, None], bias * gain + shift
    blobs[0].data[...] = kernel
    if len(blobs) > 1:
        blobs[1].data[...] = bias
folded.save(out)
