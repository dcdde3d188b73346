"""``python -m caffe_merge``: the command caffe-merge."""

import sys

from caffe_merge.cli import main

if __name__ == "__main__":
    sys.exit(main())
