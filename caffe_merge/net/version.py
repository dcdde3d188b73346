"""A version of a blob: one write of it, with the layer that makes it and those that read it."""

from __future__ import annotations

from typing import List, Optional, Tuple

from caffe_merge.arrays import Shape
from caffe_merge.layers.layer import Layer


class Version:
    """One write of a blob: its name, the layer and top that make it, the layers that read it."""

    __slots__ = ("name", "producer", "readers", "shape", "top")

    def __init__(self, name: str, producer: Layer, top: int) -> None:
        self.name = name
        self.shape: Optional[Shape] = None
        self.producer = producer
        self.top = top
        self.readers: List[Tuple[Layer, int]] = []

    def __repr__(self) -> str:
        return f"<{self.name!r} of {self.producer.name!r}>"

    @property
    def rank(self) -> Optional[int]:
        """Its number of axes, None if that is not known."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_output(self) -> bool:
        """Whether it is a net output: nobody reads it."""
        return not self.readers

    @property
    def is_input(self) -> bool:
        """Whether it comes from outside: its layer has no bottoms."""
        return not self.producer.param.bottom

    @property
    def overwritten(self) -> bool:
        """Whether a reader writes it in place."""
        return any(
            number < len(reader.param.top) and reader.param.top[number] == self.name
            for reader, number in self.readers
        )
