#!/usr/bin/env python3
"""What a random resized crop costs, by everybody who could resize it, and how good it is.

Windows are drawn as torchvision draws them; each is sliced from its record and resized into its
place in a batch. The reference is the same slice by the same filter, antialiased, in floats.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from contest.quality import psnr, ssim
from measuring import median, options_of, ratio, table, take_turns, workplace
from PIL import Image

import mmcache
from mmcache.chances import uniform
from mmcache.crops import DRAWS_RESIZED, random_resized
from mmcache.resampling import resized

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Picture = NDArray[Any]
    Window = tuple[int, int, int, int]
    Way = Callable[[Picture, Window, Picture], object]

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
THREADS = 2


class Contender(NamedTuple):
    """A way to resize, and the filter that its result is compared with; None where it has none."""

    way: Way
    resample: str | None = "bilinear"


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(
        __doc__, arguments, size=256, crop=224, small=96, crops=500, sample=200, rounds=7
    )
    with workplace(options) as (photos, work):
        cache = mmcache.build(photos, work / "photos.mmc", size=options.size, progress=False)
        taken = drawn(cache, options.crops)
        there, missing = tried(contenders(), taken[0])
        for edge in (options.crop, options.small):
            print(
                f"## Random resized crops of {edge} from {len(cache):,} pictures in {options.size}"
            )
            print(f"\n{share_shrunk(taken, edge)}\n")
            print(compared(there, taken, edge, options), end="\n\n")
        for name, error in missing.items():
            print(f"Left out: {name} ({error})")
    return 0


def drawn(cache: mmcache.Cache, count: int) -> list[tuple[Picture, Window]]:
    """Return *count* pictures with a window each, the same in every run."""
    rows = np.arange(count) % len(cache)
    heights, widths, _ = cache.shapes[rows].T.astype(np.int64)
    draws = uniform(0, count, DRAWS_RESIZED, seed=0)
    windows = random_resized(heights, widths, SCALE, RATIO, draws)
    return [(cache[row], tuple(w)) for row, w in zip(rows.tolist(), windows.tolist(), strict=True)]


def share_shrunk(taken: list[tuple[Picture, Window]], edge: int) -> str:
    """Tell how many windows become smaller: only there does antialiasing do something."""
    windows = np.array([window for _, window in taken])
    shrunk = np.mean((windows[:, 2:] > edge).any(axis=1))
    height, width = np.median(windows[:, 2:], axis=0)
    return f"{shrunk:.0%} of the windows are shrunk; half are smaller than {height:g} x {width:g}."


# The table ---------------------------------------------------------------------------------------


def tried(
    ways: dict[str, Callable[[], Contender]], one: tuple[Picture, Window]
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Let each make one crop; return those that can, and why others cannot."""
    there, missing = {}, {}
    for name, prepare in ways.items():
        try:
            contender = prepare()
            contender.way(*one, np.empty((32, 32, 3), np.uint8))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            missing[name] = f"{type(error).__name__}: {error}"
        else:
            there[name] = contender
    return there, missing


def compared(
    there: dict[str, Contender], taken: list[tuple[Picture, Window]], edge: int, options: Any
) -> str:
    """Measure all of them, in turns."""
    batch = np.empty((len(taken), edge, edge, 3), np.uint8)
    alone = {name: worked(one.way, taken, batch, 1) for name, one in there.items()}
    both = {name: worked(one.way, taken, batch, THREADS) for name, one in there.items()}
    one_thread = take_turns(alone, options.rounds)
    threads = take_turns(both, options.rounds)
    first = next(iter(there))
    used = [spent.processor for spent in one_thread[first]]
    rows = []
    for name, contender in there.items():
        processor = [spent.processor for spent in one_thread[name]]
        clock = [spent.clock for spent in threads[name]]
        rows.append((
            name,
            f"{len(taken) / median(processor):,.0f}",
            f"{ratio(used, processor):.2f} x",
            f"{len(taken) / median(clock):,.0f}",
            *qualities(contender, taken[: options.sample], edge),
        ))  # fmt: skip
    return table(
        ("who resizes", "crops/s a core", "times Pillow", f"crops/s, {THREADS} threads",
         "least dB", "median dB", "least SSIM"),
        rows,
    )  # fmt: skip


def worked(
    way: Way, taken: list[tuple[Picture, Window]], batch: Picture, threads: int
) -> Callable[[], object]:
    """Return the work of filling *batch*, shared out evenly."""

    def part(first: int) -> None:
        for place in range(first, len(taken), threads):
            way(*taken[place], batch[place])

    def work() -> None:
        if threads == 1:
            part(0)
            return
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(part, range(threads)))

    return work


def qualities(
    contender: Contender, taken: list[tuple[Picture, Window]], edge: int
) -> tuple[str, str, str]:
    """Return the least and the median PSNR in dB, and the least SSIM, of crops against floats."""
    if contender.resample is None:
        return "", "", ""
    made = np.empty((edge, edge, 3), np.uint8)
    decibels, ssims = [], []
    for picture, window in taken:
        exact = in_floats(sliced(picture, window), edge, contender.resample)
        contender.way(picture, window, made)
        decibels.append(psnr(made, exact))
        ssims.append(ssim(made.mean(axis=2), exact.mean(axis=2)))
    return f"{min(decibels):.1f}", f"{median(decibels):.1f}", f"{min(ssims):.3f}"


def in_floats(taken: Picture, edge: int, resample: str) -> NDArray[np.float64]:
    """Resize each channel in floats, antialiased, and clip at the end."""
    channels = [
        Image.fromarray(taken[..., channel].astype(np.float32)).resize(
            (edge, edge), Image.Resampling[resample.upper()]
        )
        for channel in range(3)
    ]
    return np.clip(np.dstack([np.asarray(one, np.float64) for one in channels]), 0, 255)


# Who resizes -------------------------------------------------------------------------------------


def contenders() -> dict[str, Callable[[], Contender]]:
    """Return how each is prepared; preparing one that is not installed fails."""
    return {
        "mmcache, Pillow": lambda: by_mmcache("pillow"),
        "mmcache, cykooz-resizer": lambda: by_mmcache("cykooz"),
        "mmcache, Pillow, bicubic": lambda: by_mmcache("pillow", "bicubic"),
        "mmcache, cykooz-resizer, bicubic": lambda: by_mmcache("cykooz", "bicubic"),
        "mmcache, Pillow, Lanczos": lambda: by_mmcache("pillow", "lanczos"),
        "mmcache, cykooz-resizer, Lanczos": lambda: by_mmcache("cykooz", "lanczos"),
        "Pillow, box of the whole": lambda: Contender(pillow_box),
        "Pillow, reducing_gap=2": lambda: Contender(pillow_reducing),
        "Pillow, four bytes a pixel": lambda: Contender(pillow_four),
        "cykooz-resizer on Pillow's memory": cykooz_pillow,
        "pic-scale": pic_scale,
        "kornia-rs, antialias": kornia,
        "zignal": zignal,
        "torch, antialias": torch_antialias,
        "NumPy, two matrices": lambda: Contender(matrices),
        "cykooz-resizer, not antialiased": cykooz_interpolation,
        "OpenCV linear, not antialiased": lambda: opencv("INTER_LINEAR"),
        "OpenCV area": lambda: opencv("INTER_AREA"),
        "FFCV (OpenCV area)": ffcv,
        "nobody: a copy of as many bytes": lambda: Contender(copied, None),
    }


def sliced(picture: Picture, window: Window) -> Picture:
    """Return the view of *picture* that is in *window*."""
    top, left, height, width = window
    return picture[top : top + height, left : left + width]


def edges_of(out: Picture) -> tuple[int, int]:
    """Return width and height of *out*, the order of Pillow and most of the others."""
    return out.shape[1], out.shape[0]


def by_mmcache(resampler: Any, resample: Any = "bilinear") -> Contender:
    """Let mmcache do it."""

    def way(picture: Picture, window: Window, out: Picture) -> None:
        resized(picture, window, out.shape[:2], resample, out=out, resampler=resampler)

    return Contender(way, resample)


def pillow_box(picture: Picture, window: Window, out: Picture) -> None:
    """Hand Pillow the whole record, which it copies, and a box."""
    top, left, height, width = window
    box = (left, top, left + width, top + height)
    image = Image.fromarray(picture)
    out[...] = np.asarray(image.resize(edges_of(out), Image.Resampling.BILINEAR, box))


def pillow_reducing(picture: Picture, window: Window, out: Picture) -> None:
    """Let Pillow shrink by whole numbers first."""
    image = Image.fromarray(sliced(picture, window))
    made = image.resize(edges_of(out), Image.Resampling.BILINEAR, reducing_gap=2)
    out[...] = np.asarray(made)


def pillow_four(picture: Picture, window: Window, out: Picture) -> None:
    """Spread the slice to Pillow's own four bytes a pixel, which it then need not copy."""
    _, _, height, width = window
    spread = np.empty((height, width, 4), np.uint8)
    spread[..., :3] = sliced(picture, window)
    image = Image.frombuffer("RGBX", (width, height), spread, "raw", "RGBX", 0, 1)
    out[...] = np.asarray(image.resize(edges_of(out), Image.Resampling.BILINEAR))[..., :3]


def cykooz_pillow() -> Contender:
    """Let cykooz-resizer read and write Pillow's memory."""
    import cykooz_resizer as library  # noqa: PLC0415  # where it is missing it is left out

    bilinear = library.ResizeAlg.convolution(library.FilterType.bilinear)
    settings = library.ResizeOptions(bilinear)
    own = threading.local()

    def way(picture: Picture, window: Window, out: Picture) -> None:
        if not hasattr(own, "resizer"):
            own.resizer = library.Resizer()
        made = Image.new("RGB", edges_of(out))
        own.resizer.resize_pil(Image.fromarray(sliced(picture, window)), made, settings)
        out[...] = np.asarray(made)

    return Contender(way)


def cykooz_interpolation() -> Contender:
    """Let cykooz-resizer take the four nearest pixels, however much is shrunk."""
    import cykooz_resizer as library  # noqa: PLC0415  # where it is missing it is left out

    settings = library.ResizeOptions()
    four = library.Algorithm.interpolation.value, library.FilterType.bilinear.value, 2
    settings.rust_options = settings.rust_options.set_resize_alg(*four)
    own = threading.local()

    def way(picture: Picture, window: Window, out: Picture) -> None:
        if not hasattr(own, "resizer"):
            own.resizer = library.Resizer()
        _, _, height, width = window
        kind = library.PixelType.U8x3
        source = library.ImageData(width, height, kind, sliced(picture, window).tobytes())
        made = library.ImageData(*edges_of(out), kind)
        own.resizer.resize(source, made, settings)
        out[...] = np.frombuffer(made.get_buffer(), np.uint8).reshape(out.shape)

    return Contender(way)


def pic_scale() -> Contender:
    """Let pic-scale do it, which takes Pillow's pictures."""
    import pic_scale as library  # noqa: PLC0415  # where it is missing it is left out

    def way(picture: Picture, window: Window, out: Picture) -> None:
        image = Image.fromarray(sliced(picture, window))
        out[...] = np.asarray(library.resize(image, edges_of(out), library.Resampling.BILINEAR))

    return Contender(way)


def kornia() -> Contender:
    """Let kornia-rs do it, which takes arrays."""
    from kornia_rs import imgproc  # noqa: PLC0415  # where it is missing it is left out

    def way(picture: Picture, window: Window, out: Picture) -> None:
        taken = np.ascontiguousarray(sliced(picture, window))
        out[...] = imgproc.resize(taken, out.shape[:2], "bilinear", antialias=True)

    return Contender(way)


def zignal() -> Contender:
    """Let zignal do it, which takes arrays."""
    import zignal as library  # noqa: PLC0415  # where it is missing it is left out

    def way(picture: Picture, window: Window, out: Picture) -> None:
        # A packed copy: a slice as it lies takes it twice as long.
        image = library.Image.from_numpy(sliced(picture, window).copy())
        out[...] = image.resize(out.shape[:2], library.Interpolation.BILINEAR).to_numpy()

    return Contender(way)


def torch_antialias() -> Contender:
    """Let torch do it, in uint8 and with channels last, which is its fast way."""
    import torch  # noqa: PLC0415  # where it is missing it is left out

    torch.set_num_threads(1)

    def way(picture: Picture, window: Window, out: Picture) -> None:
        taken = torch.from_numpy(sliced(picture, window).copy()).permute(2, 0, 1)[None]
        made = torch.nn.functional.interpolate(
            taken, out.shape[:2], mode="bilinear", antialias=True
        )
        out[...] = made[0].permute(1, 2, 0).numpy()

    return Contender(way)


def matrices(picture: Picture, window: Window, out: Picture) -> None:
    """Multiply by the weights of the rows, and of the columns, in floats."""
    taken = sliced(picture, window).astype(np.float32)
    height, width, channels = taken.shape
    rows = weights(height, out.shape[0]) @ taken.reshape(height, width * channels)
    # Packed, so that this too is one product of two matrices.
    planes = np.ascontiguousarray(rows.reshape(-1, width, channels).transpose(0, 2, 1))
    made = planes.reshape(-1, width) @ weights(width, out.shape[1]).T
    out[...] = (made.reshape(-1, channels, out.shape[1]) + 0.5).transpose(0, 2, 1)


def weights(source: int, target: int) -> NDArray[np.float32]:
    """Return what each of *source* pixels counts in each of *target*: antialiased bilinear."""
    grows = source / target
    support = max(1.0, grows)
    centres = (np.arange(target, dtype=np.float32) + 0.5) * grows
    far = np.abs(np.arange(source, dtype=np.float32) + 0.5 - centres[:, None]) / support
    raw = np.maximum(0, 1 - far).astype(np.float32)
    normalised: NDArray[np.float32] = raw / raw.sum(axis=1, keepdims=True)
    return normalised


def opencv(named: str) -> Contender:
    """Let OpenCV do it, straight from the slice into its place."""
    import cv2  # noqa: PLC0415  # where it is missing it is left out

    cv2.setNumThreads(1)
    flag = getattr(cv2, named)

    def way(picture: Picture, window: Window, out: Picture) -> None:
        cv2.resize(sliced(picture, window), edges_of(out), dst=out, interpolation=flag)

    return Contender(way)


def ffcv() -> Contender:
    """Let FFCV do it, which calls OpenCV's C++ in the same way."""
    from ffcv.libffcv import resize_crop  # noqa: PLC0415  # where it is missing it is left out

    def way(picture: Picture, window: Window, out: Picture) -> None:
        top, left, height, width = window
        resize_crop(picture, top, top + height, left, left + width, out)

    return Contender(way)


def copied(picture: Picture, window: Window, out: Picture) -> None:  # noqa: ARG001  # a way's shape
    """Copy as many bytes as the result has: the limit."""
    out[...] = LIMIT[: out.shape[0], : out.shape[1]]


LIMIT = np.zeros((1024, 1024, 3), np.uint8)

if __name__ == "__main__":
    sys.exit(main())
