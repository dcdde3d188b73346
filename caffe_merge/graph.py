"""The graph: every write of a blob is a version with one producer and its readers.

Caffe names blobs, and in-place layers write a name again; the graph resolves names once, so passes
compare versions and never names. Names are kept as what they are for: the interface. A version
that nobody reads is a net output, and a net input is what a layer without bottoms produces; both
keep their names for ever.
"""

from typing import Collection, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from caffe_merge.errors import NetError
from caffe_merge.join import shapes_behind, shared_blobs, top_shapes
from caffe_merge.layer import Layer, shares_memory
from caffe_merge.shapes import Shape
from caffe_merge.wording import counted


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
        """Its number of axes, None if that cannot be told."""
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


class Graph:
    """Blob versions of the layers of a net, in net order."""

    def __init__(
        self, layers: Sequence[Layer], input_shapes: Optional[Mapping[str, Shape]] = None
    ) -> None:
        """Resolve names. Raises NetError where Caffe would not build the net (net.cpp).

        With ``input_shapes`` (blob name -> shape; may be empty) versions get their shapes.
        """
        self.layers: List[Layer] = list(layers)
        self._resolve()
        self._taken = {top.name for tops in self.tops.values() for top in tops}
        if input_shapes is not None:
            for layer, shapes in zip(self.layers, top_shapes(self.layers, input_shapes)):
                for version, shape in zip(self.tops[layer], shapes):
                    version.shape = shape

    def _resolve(self) -> None:
        self.bottoms: Dict[Layer, List[Version]] = {}
        self.tops: Dict[Layer, List[Version]] = {}
        current: Dict[str, Version] = {}
        for layer in self.layers:
            bottoms = []
            for number, name in enumerate(layer.param.bottom):
                version = current.get(name)
                if version is None:
                    raise NetError(
                        f"layer {layer.name!r}: bottom {name!r} is the top of no layer before it"
                    )
                version.readers.append((layer, number))
                bottoms.append(version)
            tops = []
            for number, name in enumerate(layer.param.top):
                in_place = number < len(bottoms) and layer.param.bottom[number] == name
                if name in current and not in_place:
                    raise NetError(
                        f"layer {layer.name!r}: top {name!r} is a top of layer "
                        f"{current[name].producer.name!r} already, and not written in place"
                    )
                current[name] = Version(name, layer, number)
                tops.append(current[name])
            self.bottoms[layer] = bottoms
            self.tops[layer] = tops
        self._reject_overwritten()

    def _reject_overwritten(self) -> None:
        """Caffe copies a blob of several readers (InsertSplits); none of them can write it then."""
        for layer in self.layers:
            for version in self.tops[layer]:
                if len(version.readers) > 1 and version.overwritten:
                    names = ", ".join(repr(reader.name) for reader, _ in version.readers)
                    raise NetError(
                        f"layers {names} read {version.name!r}, and one of them writes it in place"
                    )

    @property
    def outputs(self) -> List[Version]:
        """The net outputs, in net order."""
        return [
            version for layer in self.layers for version in self.tops[layer] if version.is_output
        ]

    def ends(self, layers: Collection[Layer]) -> List[Version]:
        """What ``layers`` give out: versions that others read, and net outputs; in net order."""
        return [
            version
            for layer in layers
            for version in self.tops[layer]
            if version.is_output or any(reader not in layers for reader, _ in version.readers)
        ]

    def sources(self, layers: Collection[Layer]) -> List[Version]:
        """What ``layers`` read of others, each once."""
        bottoms = [version for layer in layers for version in self.bottoms[layer]]
        return [one for one in dict.fromkeys(bottoms) if one.producer not in layers]

    def stand_in(
        self,
        version: Version,
        removed: Collection[Layer],
        reads: Mapping[Layer, Tuple[int, ...]],
    ) -> Version:
        """What takes the place of ``version`` without the layers ``removed`` (see Rewrite)."""
        while version.producer in removed:
            number = reads.get(version.producer, (0,))[0]
            version = self.bottoms[version.producer][number]
        return version

    def sharers(self) -> Dict[Layer, List[Layer]]:
        """For each layer that shares a blob by ``param { name }``, the layers it shares with."""
        found: Dict[Layer, Dict[Layer, None]] = {}
        for group in shared_blobs(self.layers).values():
            for layer, _ in group:
                others = {other: None for other, _ in group if other is not layer}
                found.setdefault(layer, {}).update(others)
        return {layer: list(others) for layer, others in found.items() if others}

    # -- edits, by the editor only --------------------------------------------------------

    def why_not_bypass(self, layer: Layer) -> Optional[str]:
        """Why ``layer`` (one bottom, its tops all equal to it) cannot go; None if it can."""
        bottom = self.bottoms[layer][0]
        outputs = [version for version in self.tops[layer] if version.is_output]
        if len(outputs) > 1:
            return f"its {counted(len(outputs), 'net output')} could not all keep their names"
        if outputs and outputs[0].name != bottom.name:
            if self.lowest(bottom).is_input:
                return "it joins a net input to a net output, and both keep their names"
            if len(bottom.readers) > 1 or len(self.tops[layer]) > 1:
                return f"its net output {outputs[0].name!r} would have readers, and be none then"
        return self.why_not_alias([layer])

    def why_not_alias(self, layers: Sequence[Layer]) -> Optional[str]:
        """Why memory that ``layers``, in a row, share or keep apart must stay so; None if it need
        not.

        In Caffe a Split's tops are the memory of its bottom, and so are those of Reshape and their
        like: who writes one of them in place writes all. Without the layers that would change.
        """
        bottom = self.bottoms[layers[0]][0]
        memory = self._memory(bottom, layers)
        seen = not self.is_private(bottom) or any(
            len(version.readers) > 1 or self._is_one_of_many(version) for version in memory
        )
        if seen and any(
            version.overwritten and shares_memory(self.lowest(version).producer)
            for version in memory
        ):
            return "behind or beside it memory is written in place that others see as it is now"
        return None

    def _memory(self, version: Version, without: Collection[Layer] = ()) -> Set[Version]:
        """The versions with the memory of ``version`` in Caffe, or as if ``without`` shared it."""
        found = {version}
        todo = [version]
        while todo:
            one = todo.pop()
            near = [self.below(one)]
            if one.producer in without or shares_memory(one.producer):
                near.append(self.bottoms[one.producer][0])
            for reader, _ in one.readers:
                if reader in without or shares_memory(reader):
                    near += self.tops[reader]
                near += [top for top in self.tops[reader] if self.below(top) is one]
            fresh = {other for other in near if other is not None and other not in found}
            found |= fresh
            todo += fresh
        return found

    def in_order(self, layers: Collection[Layer]) -> Tuple[Layer, ...]:
        """``layers`` in net order."""
        return tuple(layer for layer in self.layers if layer in layers)

    def why_not_move(self, version: Version, but: Collection[Layer] = ()) -> Optional[str]:
        """Why ``version`` cannot be read in another place of the net; None if it can.

        Where some layer, ``but`` these, writes its memory after it was made, something else may be
        found there.
        """
        place = {layer: number for number, layer in enumerate(self.layers)}
        written = any(
            self.below(other) is not None
            and other.producer not in but
            and place[other.producer] > place[version.producer]
            for other in self._memory(version)
        )
        name = repr(version.name)
        return f"the memory of {name} is written in place by another" if written else None

    def _is_one_of_many(self, version: Version) -> bool:
        """Whether its memory is that of the other tops of its layer too."""
        return shares_memory(version.producer) and len(self.tops[version.producer]) > 1

    def bypass(self, layer: Layer, rename: bool = True) -> None:
        """Take ``layer`` out: readers of its tops read its bottom instead.

        The two versions become one, under one of their names: that of the top if it is a net
        output, or if the layer was the bottom's only reader and nobody else sees its memory.
        Without ``rename`` it is the bottom's in any case.
        """
        bottom = self.bottoms[layer][0]
        bottom.readers = [(reader, n) for reader, n in bottom.readers if reader is not layer]
        tops = self.tops[layer]
        outputs = [top for top in tops if top.is_output]
        name = bottom.name
        if rename and outputs:
            name = outputs[0].name
        elif rename and not bottom.readers and len(tops) == 1 and self.is_private(bottom):
            name = tops[0].name
        for top in tops:
            for reader, number in top.readers:
                self.bottoms[reader][number] = bottom
                bottom.readers.append((reader, number))
        self.layers.remove(layer)
        del self.bottoms[layer], self.tops[layer]
        self.rename_all(bottom, name)

    def keep_bottoms(self, layer: Layer, numbers: Sequence[int]) -> None:
        """Let ``layer`` read only those of its bottoms, given by number."""
        kept = [self.bottoms[layer][number] for number in numbers]
        for bottom in self.bottoms[layer]:
            bottom.readers = [one for one in bottom.readers if one[0] is not layer]
        for number, bottom in enumerate(kept):
            bottom.readers.append((layer, number))
        self.bottoms[layer] = kept
        layer.param.bottom[:] = [bottom.name for bottom in kept]

    def remove(self, layer: Layer) -> None:
        """Take out ``layer``, whose tops nobody reads."""
        self.keep_bottoms(layer, ())
        self.layers.remove(layer)
        del self.bottoms[layer], self.tops[layer]

    def reshape(self, layers: Iterable[Layer]) -> None:
        """Tell anew what shapes ``layers``, in net order, give out now."""
        for layer in layers:
            shapes = shapes_behind(layer, [bottom.shape for bottom in self.bottoms[layer]])
            for top, shape in zip(self.tops[layer], shapes):
                top.shape = shape

    def fresh(self, version: Version) -> str:
        """A name for ``version`` that the net never had."""
        base = name = f"{version.producer.name}_merged"
        number = 1
        while name in self._taken:
            number += 1
            name = f"{base}{number}"
        self._taken.add(name)
        return name

    def below(self, version: Version) -> Optional[Version]:
        """The version that ``version`` is written in place of."""
        bottoms = self.bottoms[version.producer]
        if version.top < len(bottoms) and bottoms[version.top].name == version.name:
            return bottoms[version.top]
        return None

    def lowest(self, version: Version) -> Version:
        """The first of the versions that are written in place of one another up to this one."""
        below = self.below(version)
        while below is not None:
            version, below = below, self.below(below)
        return version

    def is_private(self, version: Version) -> bool:
        """Whether its memory is no net input's, nor another version's under another name."""
        first = self.lowest(version)
        return not (first.is_input or shares_memory(first.producer))

    def is_watched(self, version: Version) -> bool:
        """Whether others read its memory: when they do so, before or after a write, counts."""
        first = self.lowest(version)
        while shares_memory(first.producer):
            bottom = self.bottoms[first.producer][0]
            if len(bottom.readers) > 1 or len(self.tops[first.producer]) > 1:
                return True
            first = self.lowest(bottom)
        return False

    def rename(self, version: Version, name: str) -> None:
        """Call ``version`` by a name that no other version has, or one that it is in place of."""
        version.name = name
        version.producer.param.top[version.top] = name
        for reader, number in version.readers:
            reader.param.bottom[number] = name

    def rename_all(self, version: Version, name: str) -> None:
        """Rename ``version`` and all that it is written in place of."""
        todo: Optional[Version] = version
        while todo is not None:
            below = self.below(todo)
            self.rename(todo, name)
            todo = below

    def check(self) -> None:
        """Raise AssertionError unless resolving the names anew gives this very graph."""
        try:
            fresh = Graph(self.layers)
        except NetError as error:
            raise AssertionError(f"a broken graph: {error}") from error
        for layer in self.layers:
            for mine, theirs in (
                (self.bottoms[layer], fresh.bottoms[layer]),
                (self.tops[layer], fresh.tops[layer]),
            ):
                same = [(v.name, v.producer, v.top) for v in mine]
                if same != [(v.name, v.producer, v.top) for v in theirs]:
                    raise AssertionError(f"{layer!r} reads or writes {theirs}, meant {mine}")
        for layer in self.layers:
            for mine_, theirs_ in zip(self.tops[layer], fresh.tops[layer]):
                if set(mine_.readers) != set(theirs_.readers):
                    raise AssertionError(f"{mine_} is read by {theirs_.readers}")
