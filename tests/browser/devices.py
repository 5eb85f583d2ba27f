"""The screens that pages are looked at on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from playwright.sync_api import Browser, BrowserContext

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


@dataclass(frozen=True)
class Device:
    """A screen, in CSS pixels; one is touched, or it has a mouse."""

    width: int
    height: int
    touch: bool = False


PHONE = Device(390, 844, touch=True)
TABLET = Device(820, 1180, touch=True)
DESKTOP = Device(1440, 900)
DEVICES = (PHONE, TABLET, DESKTOP)


@contextmanager
def open_context(browser: Browser, device: Device, scheme: Scheme = "light") -> Iterator[BrowserContext]:
    """A fresh browser profile on such a screen."""
    context = browser.new_context(
        viewport={"width": device.width, "height": device.height},
        has_touch=device.touch,
        is_mobile=device.touch,
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    context.set_default_timeout(15_000)
    try:
        yield context
    finally:
        context.close()
