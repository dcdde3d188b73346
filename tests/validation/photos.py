"""Folders of images for tests."""

from pathlib import Path
from typing import Any, List

import numpy as np


def save(path: Path, seed: int = 0, size: Any = (9, 7)) -> np.ndarray:
    """Write an image of (rows, columns); its pixels, RGB."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def folder(path: Path, number: int = 3) -> List[str]:
    (path / "photos" / "more").mkdir(parents=True)
    names = [f"photos/{'more/' if n == 1 else ''}{n}.png" for n in range(number)]
    for seed, name in enumerate(names):
        save(path / name, seed)
    (path / "photos" / "notes.txt").write_text("no image")
    return names


def empty(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"
