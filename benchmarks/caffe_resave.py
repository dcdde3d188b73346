"""What a script on pycaffe does at least: load a pair, save it. Any Python with Caffe."""

import sys

import caffe

net = caffe.Net(sys.argv[1], caffe.TEST, weights=sys.argv[2])
net.save(sys.argv[3])
