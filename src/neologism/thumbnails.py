"""Pictures small enough to stand inside a page, as data addresses."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image

from neologism.contact import on_ground

CRISP = 128
"""Pictures up to this side keep their pixels, and a page shows them enlarged by whole pixels."""


def address(image: Image.Image, side: int) -> str:
    """The picture at no more than `side` pixels as a data: address: PNG where it is small, JPEG else."""
    shown = on_ground(image)
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    small, out = max(shown.size) <= CRISP, BytesIO()
    shown.save(out, "PNG" if small else "JPEG", **({"optimize": True} if small else {"quality": 85}))
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
