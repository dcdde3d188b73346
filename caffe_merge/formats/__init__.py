"""The two formats: prototxt text and weights files, and the messages of caffe.proto in both."""
