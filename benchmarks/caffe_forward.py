"""Forward time of two pairs in pycaffe, run in turn in one process. Any Python with Caffe."""

import sys
import time

import caffe

TIMES = 15

nets = [caffe.Net(sys.argv[n], caffe.TEST, weights=sys.argv[n + 1]) for n in (1, 3)]
seconds = [[], []]
for turn in range(TIMES + 2):
    for net, taken in zip(nets, seconds):
        start = time.time()
        net.forward()
        if turn >= 2:
            taken.append(time.time() - start)
before, after = (sorted(taken)[TIMES // 2] for taken in seconds)
row = "  {}  {:4d} layers  {:7.1f} ms"
print(row.format("before", len(nets[0].layers), 1000 * before))
print(row.format("after ", len(nets[1].layers), 1000 * after))
print(f"  ratio   {before / after:.2f} x faster")
