"""Pairs in real Caffe, run in turn in one process: TIMES, then text and weights of each pair.

Any Python with Caffe. Prints JSON, a value for each pair: milliseconds of processor time of a
forward pass (median and least), the median of the turns' ratios to the last pair, and the largest
difference of an output from the first pair's, relative to its largest value.
"""

import json
import resource
import sys

import caffe
import numpy as np


def processor_time():
    """Of this process, in milliseconds: other processes on the machine do not count."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (usage.ru_utime + usage.ru_stime)


times, files = int(sys.argv[1]), sys.argv[2:]
nets = [
    caffe.Net(text, caffe.TEST, weights=values) for text, values in zip(files[::2], files[1::2])
]
noise = np.random.RandomState(0)
images = [noise.standard_normal(nets[0].blobs[name].data.shape) for name in nets[0].inputs]
taken = np.zeros((times + 2, len(nets)))
for at, turn in enumerate(taken):
    for step in range(len(nets)):
        number = (at + step) % len(nets)  # who comes after whom costs time: caches
        net = nets[number]
        for name, image in zip(nets[0].inputs, images):
            net.blobs[name].data[...] = image
        start = processor_time()
        net.forward()
        turn[number] = processor_time() - start
counted = taken[2:]
outputs = [[net.blobs[name].data for name in nets[0].outputs] for net in nets]
results = {
    "median": np.median(counted, axis=0).tolist(),
    "least": counted.min(axis=0).tolist(),
    "ratio": np.median(counted / counted[:, -1:], axis=0).tolist(),
    "error": [
        max(float(abs(new - old).max() / abs(old).max()) for old, new in zip(outputs[0], of_net))
        for of_net in outputs
    ],
}
print(json.dumps(results))
