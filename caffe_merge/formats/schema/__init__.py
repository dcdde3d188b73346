"""The messages of caffe.proto, their strings of any bytes, and a user's own caffe.proto."""
