"""One antialiased resize of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resized(
    view: NDArray[Any],
    window: Any,
    size: tuple[int, int],
    resample: str,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    t, l, h, w = window
    image = Image.fromarray(view[t : t + h, l : l + w])
    made = np.asarray(image.resize((size[1], size[0]), Image.Resampling[resample.upper()]))
    if out is None:
        return made
    out[...] = made
    return out
