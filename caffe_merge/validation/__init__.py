"""Two pairs of files, run by an engine in processes of its own, compared blob by blob."""

from caffe_merge.validation.compare import BlobResult, Comparison, InputUsed
from caffe_merge.validation.engines import ENGINES, Pair, forward, validate

__all__ = ["ENGINES", "BlobResult", "Comparison", "InputUsed", "Pair", "forward", "validate"]
