"""Two pairs in real Caffe, run in turn in one process. Any Python with Caffe.

Prints JSON: milliseconds of a forward pass of each (median and least), the median of the turns'
ratios, and the largest difference of an output, relative to its largest value.
"""

import json
import sys
import time

import caffe
import numpy as np

TIMES = int(sys.argv[5])

nets = [caffe.Net(sys.argv[n], caffe.TEST, weights=sys.argv[n + 1]) for n in (1, 3)]
noise = np.random.RandomState(0)
images = [noise.standard_normal(nets[0].blobs[name].data.shape) for name in nets[0].inputs]
taken = np.zeros((TIMES + 2, 2))
for turn in taken:
    for number, net in enumerate(nets):
        for name, image in zip(nets[0].inputs, images):
            net.blobs[name].data[...] = image
        start = time.time()
        net.forward()
        turn[number] = 1000 * (time.time() - start)
counted = taken[2:]
outputs = [[net.blobs[name].data for name in nets[0].outputs] for net in nets]
errors = [float(abs(new - old).max() / abs(old).max()) for old, new in zip(*outputs)]
answer = {
    "median": np.median(counted, axis=0).tolist(),
    "least": counted.min(axis=0).tolist(),
    "ratio": float(np.median(counted[:, 0] / counted[:, 1])),
    "error": max(errors),
}
print(json.dumps(answer))
