"""merge-product: convolutions that an Eltwise adds to an InnerProduct of the same blob go into it.

    x -> InnerProduct W     -> a
    x -> Convolution -> Flatten -> b        x -> InnerProduct W' -> y
    a + 2 b              -> y

W' = W + 2 M, where M is the convolution as a matrix over the values of x; biases likewise. (Ding et
al.: RepMLP, 2021.) It may also be the InnerProduct's output that is reshaped, and other
InnerProducts are added likewise. The InnerProduct has as many weights as before: it ties x to one
size, at which the convolution is some of them.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple, Union

from caffe_merge.algebra.dense import dense
from caffe_merge.algebra.kernels import Kernel, added
from caffe_merge.errors import Text
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.layers.moving import keeps_images, keeps_order
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import SHAPE, Reason
from caffe_merge.passes.rewriting.branches import factors_of, is_sum, sum_of
from caffe_merge.passes.rewriting.layer_kernels import (
    as_inner_product,
    convolution_of,
    inner_product_kernel,
)
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Findings,
    Pass,
    Refused,
    Rewrite,
    kept,
)
from caffe_merge.wording import named


class Branch(NamedTuple):
    """Bottom ``number`` of a sum: a linear layer of ``source``, and what reshapes its output."""

    number: int
    source: Version
    linear: Layer
    reshaping: Tuple[Layer, ...]

    @property
    def is_product(self) -> bool:
        return self.linear.type == "InnerProduct"


class MergeProduct(Pass):
    """Adds convolutions, as matrices, to InnerProducts."""

    name = "merge-product"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            for branches in _groups(graph, layer) if is_sum(layer) else ():
                rewrite: Union[Rewrite, Reason] = kept("one of them is")
                if fixed.isdisjoint((layer, *(inner for b in branches for inner in _all(b)))):
                    rewrite = _merged(graph, layer, branches)
                if isinstance(rewrite, Reason):
                    findings.append(Refused(layer, rewrite))
                else:
                    findings.add(rewrite)
        return findings


def _all(branch: Branch) -> Tuple[Layer, ...]:
    return (branch.linear, *branch.reshaping)


def _groups(graph: Graph, layer: Layer) -> List[List[Branch]]:
    """The bottoms of a sum that are branches of one blob, an InnerProduct and more, each group."""
    by_source: Dict[Version, List[Branch]] = {}
    for number, bottom in enumerate(graph.bottoms[layer]):
        branch = _branch(graph, number, bottom)
        if branch is not None:
            by_source.setdefault(branch.source, []).append(branch)
    return [
        group
        for group in by_source.values()
        if len(group) > 1 and any(branch.is_product for branch in group)
    ]


def _branch(graph: Graph, number: int, version: Version) -> Optional[Branch]:
    reshaping: List[Layer] = []
    while len(version.readers) == 1 and keeps_order(version.producer):
        reshaping.insert(0, version.producer)
        version = graph.bottoms[version.producer][0]
    linear = version.producer
    if linear.type not in (*CONVOLUTIONS, "InnerProduct") or len(version.readers) > 1:
        return None
    return Branch(number, graph.bottoms[linear][0], linear, tuple(reshaping))


def _merged(graph: Graph, layer: Layer, branches: List[Branch]) -> Union[Rewrite, Reason]:
    factors = factors_of(layer)
    if factors is None:
        return Reason("it has not one coeff for each bottom")
    kernels: List[Kernel] = []
    for branch in branches:
        kernel = _matrix(graph, branch)
        if isinstance(kernel, Reason):
            return Reason(Text(f"its branch through {branch.linear.name!r} stays: ", kernel))
        kernels.append(kernel.scaled(factors[branch.number]))
    total = added(kernels)
    if isinstance(total, Reason):
        return total
    chosen = next(branch for branch in branches if branch.is_product)
    saved = sum(branch.linear.parameters for branch in branches if branch is not chosen)
    if total.bias is not None and len(chosen.linear.blobs) < 2 and total.outputs > saved:
        return Reason("the InnerProduct's new bias would have more values than what goes")
    survivor, merged = chosen.linear, {branch.number for branch in branches}
    left = [n for n in range(len(factors)) if n == chosen.number or n not in merged]
    changes: Changes = {survivor: as_inner_product(survivor, total)}
    changes.update((inner, (inner.param, inner.blobs)) for inner in chosen.reshaping)
    if len(left) > 1:
        changes[layer] = (sum_of(layer, left, chosen.number, factors), ())
    others = [branch.linear.name for branch in branches if branch is not chosen]
    return Rewrite(
        layers=graph.in_order([layer, *(inner for branch in branches for inner in _all(branch))]),
        changes=changes,
        note=f"merged into InnerProduct {survivor.name!r}",
        kept_note=f"took in {named(others)}",
        reads={layer: tuple(left)},
    )


def _matrix(graph: Graph, branch: Branch) -> Union[Kernel, Reason]:
    """A branch as a map from the values of an image to those that it gives out."""
    linear, reshaping = branch.linear, branch.reshaping
    bottom, (top,) = branch.source, graph.tops[linear]
    if bottom.shape is None or top.shape is None:
        return Reason("its shapes are not known", SHAPE)
    if not all(_keeps_images(graph, layer) for layer in reshaping):
        return Reason("it may move values from image to image")
    if branch.is_product:
        if len(top.shape) != 2:
            return Reason("its axis is not 1")
        return inner_product_kernel(graph, linear)
    kernel = convolution_of(graph, linear)
    if isinstance(kernel, Reason):
        return kernel
    return dense(kernel, bottom.shape[2:], top.shape[2:])


def _keeps_images(graph: Graph, layer: Layer) -> bool:
    bottom, top = graph.bottoms[layer][0].shape, graph.tops[layer][0].shape
    return bottom is not None and top is not None and keeps_images(layer, bottom, top)
