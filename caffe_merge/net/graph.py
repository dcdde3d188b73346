"""The graph: every write of a blob is a version with one producer and its readers.

Caffe names blobs, and in-place layers write a name again; the graph resolves names once, so passes
compare versions and never names. Names are kept as what they are for: the interface. A version
that nobody reads is a net output, and a net input is what a layer without bottoms produces; both
keep their names for ever.
"""

from __future__ import annotations

from typing import Collection, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from caffe_merge.arrays import Shape
from caffe_merge.errors import NetError
from caffe_merge.layers.layer import Layer, shares_memory
from caffe_merge.net.propagation import shapes_behind, top_shapes
from caffe_merge.net.shared import shared_blobs
from caffe_merge.net.version import Version
from caffe_merge.notes import OUTPUT, Reason
from caffe_merge.wording import counted

__all__ = ["Graph", "Version"]


class Graph:
    """Blob versions of the layers of a net, in net order."""

    def __init__(
        self, layers: Sequence[Layer], input_shapes: Optional[Mapping[str, Shape]] = None
    ) -> None:
        """Resolve names. Raises NetError where Caffe would not build the net (net.cpp).

        With ``input_shapes`` (blob name -> shape; may be empty) versions get their shapes.
        """
        self.layers: List[Layer] = list(layers)
        # Where each layer stands among the others; a new one gets a place between two.
        self._place: Dict[Layer, float] = {layer: at for at, layer in enumerate(self.layers)}
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
                        f"layer {layer.name!r}: bottom {name!r} is the top of no layer before it",
                        layer=layer,
                        field="bottom",
                        number=number,
                    )
                version.readers.append((layer, number))
                bottoms.append(version)
            tops = []
            for number, name in enumerate(layer.param.top):
                in_place = number < len(bottoms) and layer.param.bottom[number] == name
                if name in current and not in_place:
                    raise NetError(
                        f"layer {layer.name!r}: top {name!r} is a top of layer "
                        f"{current[name].producer.name!r} already, and not written in place",
                        layer=layer,
                        field="top",
                        number=number,
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
                        f"layers {names} read {version.name!r}, and one of them writes it in place",
                        layer=layer,
                    )

    @property
    def outputs(self) -> List[Version]:
        """The net outputs, in net order."""
        return [top for layer in self.layers for top in self.tops[layer] if top.is_output]

    def outputs_of(self, layers: Collection[Layer]) -> List[Version]:
        """The tops of ``layers`` that other layers read or that are net outputs; in net order."""
        return [
            version
            for layer in layers
            for version in self.tops[layer]
            if version.is_output or any(reader not in layers for reader, _ in version.readers)
        ]

    def inputs_of(self, layers: Collection[Layer]) -> List[Version]:
        """The bottoms of ``layers`` that other layers produce, each once."""
        bottoms = [version for layer in layers for version in self.bottoms[layer]]
        return [version for version in dict.fromkeys(bottoms) if version.producer not in layers]

    def replacement_of(
        self,
        version: Version,
        removed: Collection[Layer],
        reads: Mapping[Layer, Tuple[int, ...]],
    ) -> Version:
        """What readers of ``version`` read once ``removed`` are gone: it, or a bottom of theirs.

        ``reads`` says which bottom of a removed layer its top becomes; the first without an entry.
        """
        while version.producer in removed:
            number = reads.get(version.producer, (0,))[0]
            version = self.bottoms[version.producer][number]
        return version

    def sharers(self) -> Dict[Layer, List[Layer]]:
        """For each layer that shares a blob by ``param { name }``, the layers it shares with."""
        sharers: Dict[Layer, Dict[Layer, None]] = {}
        for group in shared_blobs(self.layers).values():
            for layer, _ in group:
                others = {other: None for other, _ in group if other is not layer}
                sharers.setdefault(layer, {}).update(others)
        return {layer: list(others) for layer, others in sharers.items() if others}

    # -- names and memory -----------------------------------------------------------------

    def overwritten_by(self, version: Version) -> Optional[Version]:
        """The version that ``version`` is written over, in place; None if it is not in place."""
        bottoms = self.bottoms[version.producer]
        if version.top < len(bottoms) and bottoms[version.top].name == version.name:
            return bottoms[version.top]
        return None

    def first_write(self, version: Version) -> Version:
        """The first version in the chain of in-place writes that ends in this one."""
        earlier = self.overwritten_by(version)
        while earlier is not None:
            version, earlier = earlier, self.overwritten_by(earlier)
        return version

    def is_private(self, version: Version) -> bool:
        """Whether its memory is neither that of a net input nor that of a blob of another name."""
        first = self.first_write(version)
        return not (first.is_input or shares_memory(first.producer))

    def memory_of(self, version: Version) -> List[Version]:
        """``version``, the blob whose memory it has where its layer shares that, and so on up."""
        memory = [version]
        first = self.first_write(version)
        while shares_memory(first.producer):
            memory.append(self.bottoms[first.producer][0])
            first = self.first_write(memory[-1])
        return memory

    def memory_is_read_elsewhere(self, version: Version) -> bool:
        """Whether other layers read its memory, so that it matters when it is overwritten."""
        return any(
            len(above.readers) > 1 or len(self.tops[above.readers[0][0]]) > 1
            for above in self.memory_of(version)[1:]
        )

    def may_lose_name(self, version: Version) -> bool:
        """Whether the names of its memory may go with what a layer that goes has written there.

        Not where others read that, or one is a net input's; ``version`` itself may be a net input,
        which keeps its name and then holds what came in.
        """
        first = self.first_write(self.memory_of(version)[-1])
        return version.is_input or not (first.is_input or self.memory_is_read_elsewhere(version))

    def unused_name(self, version: Version, base: str = "") -> str:
        """A new name for ``version`` that no blob of the net has or had, like ``base`` if given."""
        base = name = base or f"{version.producer.name}_merged"
        number = 1
        while name in self._taken:
            number += 1
            name = f"{base}{number}"
        self._taken.add(name)
        return name

    # -- whether an edit would keep every value ---------------------------------------------

    def why_not_bypass(self, *chain: Layer) -> Optional[Reason]:
        """Why the layers of ``chain`` cannot go; None if they can.

        All but the last have one reader; the tops of the last equal the first bottom of the first.
        """
        bottom = self.bottoms[chain[0]][0]
        reason = self.why_not_output(bottom, chain[-1])
        return reason or self.why_not_alias(chain, keeps_values=True)

    def why_not_output(self, bottom: Version, layer: Layer) -> Optional[Reason]:
        """Why ``bottom`` could not be the net output of ``layer``, which goes; None if it could.

        What anything reads is no net output in Caffe.
        """
        outputs = [version for version in self.tops[layer] if version.is_output]
        if len(outputs) > 1:
            outputs_named = counted(len(outputs), "net output")
            return Reason(f"its {outputs_named} could not all keep their names", OUTPUT)
        if outputs and outputs[0].name != bottom.name:
            if self.first_write(bottom).is_input:
                return Reason(
                    "it joins a net input to a net output, and both keep their names", OUTPUT
                )
            if len(bottom.readers) > 1 or len(self.tops[layer]) > 1:
                return Reason(
                    f"its net output {outputs[0].name!r} would have readers, and be none then",
                    OUTPUT,
                )
        return None

    def why_not_alias(
        self, layers: Sequence[Layer], keeps_values: bool = False
    ) -> Optional[Reason]:
        """Why removing ``layers``, a chain, would change blobs in shared memory; None if not.

        In Caffe the tops of Split, Reshape and their like have the memory of the bottom: a layer
        that writes one of them in place changes all. Without the layers it would change others.
        Layers that write in place what they read (``keeps_values``) have no part in that.
        """
        in_place = all(self.overwritten_by(self.tops[layer][0]) is not None for layer in layers)
        if in_place and keeps_values:
            return None
        bottom = self.bottoms[layers[0]][0]
        memory = self._aliases(bottom, layers)
        seen = not self.is_private(bottom) or any(
            len(version.readers) > 1 or self._shares_with_siblings(version) for version in memory
        )
        if seen and any(
            write.producer not in layers and shares_memory(self.first_write(write).producer)
            for write in memory
            if self.overwritten_by(write) is not None
        ):
            return Reason(
                "behind or beside it memory is written in place that others see as it is now"
            )
        return None

    def _aliases(self, version: Version, without: Collection[Layer] = ()) -> Set[Version]:
        """The versions that lie in the memory of ``version`` in Caffe, itself included.

        The layers ``without`` count as sharing theirs, as if they were gone.
        """
        aliases = {version}
        todo = [version]
        while todo:
            alias = todo.pop()
            near = [self.overwritten_by(alias)]
            if alias.producer in without or shares_memory(alias.producer):
                near.append(self.bottoms[alias.producer][0])
            for reader, _ in alias.readers:
                if reader in without or shares_memory(reader):
                    near += self.tops[reader]
                near += [top for top in self.tops[reader] if self.overwritten_by(top) is alias]
            added = {other for other in near if other is not None and other not in aliases}
            aliases |= added
            todo += added
        return aliases

    def in_order(self, layers: Collection[Layer]) -> Tuple[Layer, ...]:
        """``layers`` in net order."""
        return tuple(layer for layer in self.layers if layer in layers)

    def why_not_move(self, version: Version, ignored: Collection[Layer] = ()) -> Optional[Reason]:
        """Why a reader further down might not see the value of ``version``; None if it would.

        It would not where a layer, other than those of ``ignored``, overwrites its memory later.
        """
        if not any(write.producer not in ignored for write in self.later_writes(version)):
            return None
        return Reason(f"the memory of {version.name!r} is written in place by another")

    def later_writes(self, version: Version) -> List[Version]:
        """The writes in place, by layers further down, into the memory of ``version``."""
        memory = self._aliases(version)
        writes = [other for other in memory if self.overwritten_by(other) is not None]
        if not writes:
            return []
        start = self._place[version.producer]
        return [write for write in writes if self._place[write.producer] > start]

    def _shares_with_siblings(self, version: Version) -> bool:
        """Whether the other tops of its producer lie in the same memory."""
        return shares_memory(version.producer) and len(self.tops[version.producer]) > 1

    # -- edits, for merging/ only ----------------------------------------------------------

    def bypass(self, layer: Layer, rename: bool = True) -> None:
        """Take ``layer`` out: readers of its tops read its (first) bottom instead.

        The two versions become one, under one of their names: that of the top if it is a net
        output, or if the layer was the bottom's only reader and nobody else sees its memory.
        Without ``rename`` it is the bottom's in any case.
        """
        bottom = self.bottoms[layer][0]
        for read in self.bottoms[layer]:
            read.readers = [(reader, n) for reader, n in read.readers if reader is not layer]
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
            bottom.readers = [reading for reading in bottom.readers if reading[0] is not layer]
        for number, bottom in enumerate(kept):
            bottom.readers.append((layer, number))
        self.bottoms[layer] = kept
        layer.param.bottom[:] = [bottom.name for bottom in kept]

    def remove(self, layer: Layer) -> None:
        """Take out ``layer``, whose tops nobody reads."""
        self.keep_bottoms(layer, ())
        self.layers.remove(layer)
        del self.bottoms[layer], self.tops[layer]

    def insert(self, layer: Layer, reader: Layer, number: int, more: Sequence[int] = ()) -> None:
        """Put ``layer``, which has a name and is not in the graph, in front of a bottom.

        It reads the bottoms ``more`` of ``reader`` too, in its place.
        """
        bottoms = [self.bottoms[reader][at] for at in (number, *more)]
        top = Version(layer.name, layer, 0)
        top.name = self.unused_name(top, "" if layer.name in self._taken else layer.name)
        for at, bottom in enumerate(bottoms):
            bottom.readers[bottom.readers.index((reader, (number, *more)[at]))] = (layer, at)
        top.readers.append((reader, number))
        at = self.layers.index(reader)
        self._place[layer] = (self._place[self.layers[at - 1]] + self._place[reader]) / 2
        self.layers.insert(at, layer)
        self.bottoms[layer], self.tops[layer] = bottoms, [top]
        self.bottoms[reader][number] = top
        layer.param.bottom[:], layer.param.top[:] = [b.name for b in bottoms], [top.name]
        reader.param.bottom[number] = top.name
        if more:
            left = [at for at in range(len(self.bottoms[reader])) if at not in more]
            self.keep_bottoms(reader, left)

    def infer_shapes(self, layers: Iterable[Layer]) -> None:
        """Infer the top shapes of ``layers``, in net order, anew."""
        for layer in layers:
            shapes = shapes_behind(layer, [bottom.shape for bottom in self.bottoms[layer]])
            for top, shape in zip(self.tops[layer], shapes):
                top.shape = shape

    def rename(self, version: Version, name: str) -> None:
        """Rename ``version``; of others only those it is written over may have ``name``."""
        version.name = name
        version.producer.param.top[version.top] = name
        for reader, number in version.readers:
            reader.param.bottom[number] = name

    def rename_all(self, version: Version, name: str) -> None:
        """Rename ``version`` and all versions that it is written over."""
        todo: Optional[Version] = version
        while todo is not None:
            overwritten = self.overwritten_by(todo)
            self.rename(todo, name)
            todo = overwritten

    def check(self) -> None:
        """Raise AssertionError unless resolving the names anew gives the same graph."""
        try:
            resolved = Graph(self.layers)
        except NetError as error:
            raise AssertionError(f"a broken graph: {error}") from error
        for layer in self.layers:
            for stored, expected in (
                (self.bottoms[layer], resolved.bottoms[layer]),
                (self.tops[layer], resolved.tops[layer]),
            ):
                same = [(v.name, v.producer, v.top) for v in stored]
                if same != [(v.name, v.producer, v.top) for v in expected]:
                    raise AssertionError(f"{layer!r} reads or writes {expected}, meant {stored}")
        for layer in self.layers:
            for version, expected_version in zip(self.tops[layer], resolved.tops[layer]):
                if set(version.readers) != set(expected_version.readers):
                    raise AssertionError(f"{version} is read by {expected_version.readers}")
