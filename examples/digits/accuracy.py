"""Print how many of the held-out digits each pair names rightly.

python examples/digits/accuracy.py deploy.prototxt digits.caffemodel [more pairs ...]
"""

import argparse
from pathlib import Path

import numpy as np

from caffe_merge.validation import forward

IMAGES = Path(__file__).with_name("test_images.npz")
GREYS = 16.0  # pixels are 0..16; the net is given 0..1


def main() -> None:
    """One line a pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="prototxt caffemodel")
    parser.add_argument("--engine", default="reference", help="what runs the nets (reference)")
    parser.add_argument("--caffe-python", help="a Python with Caffe, for --engine pycaffe")
    args = parser.parse_args()
    if len(args.files) % 2:
        parser.error("files come in pairs: a prototxt, then its caffemodel")

    with np.load(IMAGES) as test:
        images, labels = test["images"], test["labels"]
    data = (images / GREYS).astype(np.float32)
    for pair in zip(args.files[::2], args.files[1::2]):
        tops = forward(pair, {"data": data}, engine=args.engine, caffe_python=args.caffe_python)
        right = int(np.sum(tops["prob"].argmax(axis=1) == labels))
        print(f"{right / len(labels):.2%} ({right} of {len(labels)})  {pair[0]} {pair[1]}")


if __name__ == "__main__":
    main()
