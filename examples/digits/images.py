"""Write the held-out digits as PNG files, and labels.txt with the class of each.

python examples/digits/images.py FOLDER

Grey values are 0..240, 15 for each of the 16 steps: with a scale of 1/240 the net sees 0..1.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = Path(__file__).with_name("test_images.npz")
STEP = 15


def main() -> None:
    """Write them all."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(IMAGES) as test:
        images, labels = test["images"], test["labels"]
    lines = []
    for number, (image, label) in enumerate(zip(images, labels)):
        name = f"{number:03}.png"
        Image.fromarray((image[0] * STEP).astype(np.uint8)).save(folder / name)
        lines.append(f"{name} {label}\n")
    (folder / "labels.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
