"""The files of the user: read as they are, never harmed, written both or neither."""

from caffe_merge.files.identity import Unchanged
from caffe_merge.files.inputs import opened
from caffe_merge.files.outputs import check_outputs, check_report, default_output
from caffe_merge.files.places import check_file
from caffe_merge.files.recovery import put_right
from caffe_merge.files.replacement import Replacement
from caffe_merge.files.temporary import temporary_folder
from caffe_merge.files.writing import Behind, room

__all__ = [
    "Behind",
    "Replacement",
    "Unchanged",
    "check_file",
    "check_outputs",
    "check_report",
    "default_output",
    "opened",
    "put_right",
    "room",
    "temporary_folder",
]
