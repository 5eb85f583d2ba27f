"""Which names count."""

from __future__ import annotations

import pytest

from common.picture_names import is_picture_name, is_skipped_folder


@pytest.mark.parametrize(
    ("name", "counts"),
    [("a.jpg", True), ("A.JPG", True), ("e.tar.png", True), (".a.jpg", False), ("jpg", False), (".jpg", False),
     ("a.jpg.part", False), ("a.txt", False), ("", False)],
)  # fmt: skip
def test_pictures(name: str, counts: bool) -> None:
    assert is_picture_name(name) is counts


@pytest.mark.parametrize(("name", "skipped"), [("2024", False), (".git", True), ("@eaDir", True), ("lost+found", True)])
def test_folders(name: str, skipped: bool) -> None:
    assert is_skipped_folder(name) is skipped
