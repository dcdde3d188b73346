"""NetParameter and its messages, from a descriptor pool of our own.

The schema is proto/caffe.proto, compiled by setup.py into caffe.desc. It never enters protobuf's
default pool: pycaffe registers a ``caffe.proto`` there, and two of them abort the process.
"""

import os
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

__all__ = ["LayerParameter", "Message", "NetParameter"]


def _load_pool() -> descriptor_pool.DescriptorPool:
    # A FileDescriptorSet of one file is that file's bytes behind one tag and one length.
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "caffe.desc")
    with open(path, "rb") as handle:
        data = handle.read()
    start = 1
    while data[start] & 0x80:
        start += 1
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(data[start + 1 :])
    return pool


def _message_class(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf < 4.22


_POOL = _load_pool()
NetParameter = _message_class(_POOL, "caffe.NetParameter")
LayerParameter = _message_class(_POOL, "caffe.LayerParameter")
