"""Real photos as material: found in a folder, and copied under other names with other contents."""

from __future__ import annotations

from pathlib import Path

from common.images import EXTENSIONS


def photos_in(folder: Path) -> list[Path]:
    """The pictures of a folder, by name.

    Raises:
        SystemExit: There are none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise SystemExit(f"{folder} holds no pictures")
    return found


def copy_photos(photos: list[Path], folder: Path, count: int) -> list[Path]:
    """Copies photos, again and again until there are `count` files; each has a content of its own.

    A few bytes behind the end of a picture change its hash, and nothing that a decoder sees.
    """
    folder.mkdir(parents=True)
    copies = []
    for number in range(count):
        photo = photos[number % len(photos)]
        target = folder / f"{number:06}{photo.suffix}"
        target.write_bytes(photo.read_bytes() + f"{folder.name}/{number}".encode())
        copies.append(target)
    return copies
