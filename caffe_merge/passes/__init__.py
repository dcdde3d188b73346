"""The rewrites, one a file, in the order in which they are tried."""

from typing import Tuple, Type

from caffe_merge.passes._pass import Pass
from caffe_merge.passes.absorb_bias import AbsorbBias
from caffe_merge.passes.affine_as import AffineAs
from caffe_merge.passes.drop_crop import DropCrop
from caffe_merge.passes.drop_dead_channels import DropDeadChannels
from caffe_merge.passes.drop_identity import DropIdentity
from caffe_merge.passes.drop_rectifier import DropRectifier
from caffe_merge.passes.equalize import Equalize
from caffe_merge.passes.fold_affine import FoldAffine
from caffe_merge.passes.fold_forward import FoldForward
from caffe_merge.passes.fold_image import FoldImage
from caffe_merge.passes.fold_permute import FoldPermute
from caffe_merge.passes.fold_swap import FoldSwap
from caffe_merge.passes.fold_through import FoldThrough
from caffe_merge.passes.in_place import InPlace
from caffe_merge.passes.merge_branches import MergeBranches
from caffe_merge.passes.merge_concat import MergeConcat
from caffe_merge.passes.merge_groups import MergeGroups
from caffe_merge.passes.merge_permutes import MergePermutes
from caffe_merge.passes.merge_serial import MergeSerial
from caffe_merge.passes.one_scale import OneScale
from caffe_merge.passes.pool_first import PoolFirst
from caffe_merge.passes.raise_stride import RaiseStride

# Tried in this order, again and again until none finds anything.
PASSES: Tuple[Type[Pass], ...] = (
    AbsorbBias,  # in front of the folds, which it leaves its layers to
    DropIdentity,  # next: a Dropout between a Convolution and its BatchNorm prevents the fold
    DropCrop,  # likewise
    DropRectifier,  # likewise: what is not there hinders no fold
    MergePermutes,  # likewise, and two may be none
    FoldPermute,  # behind those, which leave one of several; merge-serial sees further then
    FoldSwap,  # before the folds, which would make another convolution of it
    FoldAffine,  # before one-scale: a layer that is folded away costs nothing, a Scale does
    MergeBranches,  # behind the folds, which leave bare convolutions
    MergeConcat,  # before the chains: a layer behind the Concat may merge with one convolution
    MergeGroups,  # likewise
    MergeSerial,  # behind the branches, whose chains cost nothing beside a larger kernel
    PoolFirst,  # behind the folds and the Concats: of several layers before it one is left
    RaiseStride,  # behind what makes fewer layers of the way up, and kernels of other sizes
    FoldThrough,  # before forwards: one layer changes, however many readers there are
    FoldForward,  # what none of those folded
    FoldImage,  # likewise
    OneScale,  # what is left over
    DropDeadChannels,  # behind the folds: a multiplier of 0 has made zeros, and few layers are left
    AffineAs,  # behind all that fold: the form of what is left, where the user asks for one
    Equalize,  # behind those: no layer goes, and the ranges are those of the merged layers
    InPlace,  # last: other passes ask less of a blob that is not written over
)
