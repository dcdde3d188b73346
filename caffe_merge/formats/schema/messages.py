"""NetParameter and its messages, from a descriptor pool of our own.

The schema is proto/caffe.proto, compiled by setup.py into caffe.desc. It never enters protobuf's
default pool: pycaffe registers a ``caffe.proto`` there, and two of them abort the process.
"""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any, List

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

__all__ = [
    "LayerParameter",
    "Message",
    "NetParameter",
    "changed_fields",
    "is_repeated",
    "is_required",
]


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
    old: Any = message_factory.MessageFactory(pool)  # protobuf < 4.22
    return old.GetPrototype(descriptor)


_POOL = _load_pool()
NetParameter = _message_class(_POOL, "caffe.NetParameter")
LayerParameter = _message_class(_POOL, "caffe.LayerParameter")


def is_repeated(field: Any) -> bool:
    """Whether a field is repeated (new protobuf drops ``label``, 3.20 has nothing else)."""
    repeated = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if repeated is None else repeated)


def is_required(field: Any) -> bool:
    """Whether a field is required, which none of ours is, but a fork's may be."""
    required = getattr(field, "is_required", None)
    return bool(field.label == field.LABEL_REQUIRED if required is None else required)


def changed_fields(old: Message, new: Message) -> List[FieldDescriptor]:
    """The fields in which two messages of one type differ, by number."""
    before = {field.number: (field, value) for field, value in old.ListFields()}
    after = {field.number: (field, value) for field, value in new.ListFields()}
    return [
        (after.get(number) or before[number])[0]
        for number in sorted(before.keys() | after.keys())
        if number not in before or number not in after or before[number][1] != after[number][1]
    ]


def copied(message: Any) -> Any:
    """Another message that says the same."""
    return deepcopy(message)
