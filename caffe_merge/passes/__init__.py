"""The rewrites, one a file, in the order in which they are tried."""

from __future__ import annotations

from importlib import import_module
from typing import Collection, Optional, Tuple, Type, cast

from caffe_merge.layers.catalogue import MOVING, POOLING, of_family, that
from caffe_merge.layers.linear import CONVOLUTIONS, LINEAR_TYPES
from caffe_merge.options import Options
from caffe_merge.passes.rewriting.rewrite import Pass


class PassEntry:
    """A pass by its name; its module, ``drop_identity`` of "drop-identity", is imported when used.

    It finds nothing, and refuses nothing, in a net without a layer of its ``types``, where it has
    any; nor, with an ``option``, where the user asks for neither that nor this pass alone.
    """

    package = __name__  # the folder of the modules

    def __init__(self, name: str, types: Collection[str] = (), option: str = "") -> None:
        self.name = name
        self._types = frozenset(types)
        self._option = option

    @property
    def kind(self) -> Type[Pass]:
        """The class, "DropIdentity" of "drop-identity"."""
        module = import_module(f"{self.package}.{self.name.replace('-', '_')}")
        return cast(Type[Pass], getattr(module, self.name.title().replace("-", "")))

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.kind.__doc__ or "").split("\n")[0]

    def __call__(self, options: Optional[Options] = None) -> Pass:
        """The pass, for a merge with ``options``."""
        return self.kind(options)

    def is_asked_for(self, options: Options) -> bool:
        """Whether a merge with ``options`` is to try it."""
        if self.name in options.skip or (options.only and self.name not in options.only):
            return False
        return not self._option or bool(getattr(options, self._option) or options.only)

    def may_find(self, types: Collection[str]) -> bool:
        """Whether there can be something for it in a net with layers of these ``types``."""
        return not self._types or not self._types.isdisjoint(types)


# Tried in this order, again and again until none finds anything.
PASSES: Tuple[PassEntry, ...] = (
    # first: a Dropout between a Convolution and its BatchNorm prevents the fold
    PassEntry("drop-identity"),
    # likewise
    PassEntry("drop-crop", ["Crop"]),
    # likewise: what is not there hinders no fold
    PassEntry("drop-rectifier", that("rectifier")),
    # likewise, and two may be none
    PassEntry("merge-permutes", ["Permute"]),
    # behind those, which leave one of several; merge-serial sees further then
    PassEntry("fold-permute", of_family(MOVING)),
    # behind those, which may stand in its way; before the folds, which it leaves its layers to
    PassEntry("absorb-bias", ["ReLU"], option="absorb_bias"),
    # before the folds, which would make another convolution of it
    PassEntry("fold-swap", CONVOLUTIONS),
    # before one-scale: a layer that is folded away costs nothing, a Scale does
    PassEntry("fold-affine"),
    # behind the folds, which leave bare convolutions
    PassEntry("merge-branches", ["Eltwise"]),
    # likewise, and there is one convolution of several then
    PassEntry("merge-product", ["InnerProduct"]),
    # before the chains: a layer behind the Concat may merge with one convolution
    PassEntry("merge-concat", ["Concat"]),
    # likewise
    PassEntry("merge-groups", ["Slice"]),
    # behind the branches, whose chains cost nothing beside a larger kernel
    PassEntry("merge-serial", LINEAR_TYPES),
    # behind the folds and the Concats: of several layers before it one is left
    PassEntry("pool-first", of_family(POOLING)),
    # behind what makes fewer layers of the way up, and kernels of other sizes
    PassEntry("raise-stride", (*CONVOLUTIONS, *of_family(POOLING))),
    # before forwards: one layer changes, however many readers there are
    PassEntry("fold-through"),
    # what none of those folded
    PassEntry("fold-forward"),
    # likewise
    PassEntry("fold-image", ["Bias"]),
    # what is left over
    PassEntry("one-scale"),
    # behind the folds: a multiplier of 0 has made zeros, and few layers are left
    PassEntry("drop-dead-channels", LINEAR_TYPES),
    # behind all that fold: the form of what is left, where the user asks for one
    PassEntry("affine-as", option="affine_as"),
    # behind those: no layer goes, and the ranges are those of the merged layers
    PassEntry("equalize", LINEAR_TYPES, option="equalize"),
    # last: other passes ask less of a blob that is not written over
    PassEntry("in-place", option="in_place"),
)
