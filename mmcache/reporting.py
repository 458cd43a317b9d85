"""A page that shows what is in a cache, and which pictures of it are worth a look."""

from __future__ import annotations

import base64
import io
import os
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mmcache.cache import Cache, cache_at
from mmcache.charts import bars, curves, histogram
from mmcache.errors import DamagedCacheError, DestinationError, SettingError
from mmcache.facts import counted, human_bytes
from mmcache.geometry import Size
from mmcache.progress import Progress, progress_of
from mmcache.records import STAGES, printable
from mmcache.sheet import evenly
from mmcache.statistics import Stats, Tally, measured
from mmcache.stores.payload import synced, written
from mmcache.stores.publishing import Work, destination_of
from mmcache.sweeping import swept
from mmcache.thumbnails import thumbnail
from mmcache.twins import Duplicates, grouped, hashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from mmcache.gathering import Located

__all__ = ["report"]

_MARK = '<meta name="generator" content="mmcache report">'
"""What a report begins with, and no other page has there."""

_SHOWN = 16  # pictures of each kind
_EDGE, _SMALL_EDGE = 112, 88  # of thumbnails, in pixels
_CLASSES, _OF_CLASS = 24, 8  # classes of which a sample is shown, and how many pictures of each
_BARS = 60  # classes that are counted one by one
_GROUPS, _OF_GROUP = 12, 6  # of near duplicates
_FAILURES = 10_000  # a page has an end
_COMMON = 12  # shapes that are named
_BINS = 40
_DISTANCE = 4  # bits


class _Seen(NamedTuple):
    """All that a page is made of: arrays have an element a picture."""

    cache: Cache
    stats: Stats
    twins: Duplicates
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    enlarged: NDArray[np.float64]
    cut: NDArray[np.float64]
    padded: NDArray[np.float64]


def report(
    cache: Cache | str | os.PathLike[str],
    out: str | os.PathLike[str] = "report.html",
    *,
    exist: Literal["error", "overwrite"] = "error",
    workers: int | None = None,
    progress: bool | Progress = True,
) -> Path:
    """Write a page about *cache*: what is in it, and which pictures are worth a look.

    It has counts, figures of the pixels, the smallest and largest pictures, the darkest, those most
    cut and most enlarged, near duplicates, a sample of each class, and every failure with its
    reason. It is one file that asks for no other, and needs no script; of a million pictures it
    has some megabytes.

    Parameters
    ----------
    cache : Cache or path
        Or a narrower one.
    out : path
        Where to write. There is a whole page or none, also where the process is killed.
    exist : {"error", "overwrite"}
        What to do where a report is at *out* already. What is no report stays in any case.
    workers : int, optional
        Threads that read; by default one a core.
    progress : bool or callable
        As for :func:`mmcache.build`.

    Returns
    -------
    pathlib.Path
        Where the page is.

    Raises
    ------
    DestinationError
        (a ``FileExistsError``) where *out* exists, or cannot be written to.
    SelectionError
        (a ``TypeError``) where there is no picture.
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    DamagedCacheError
        (a ``ValueError``) where a row's place in the file makes no sense, or the file is cut.
    """
    if exist not in ("error", "overwrite"):
        raise SettingError(f"exist={exist!r} is not one of error, overwrite")
    pictures = cache_at(cache)
    where = destination_of(out)
    _check_free(where, exist)
    with progress_of(progress, "looking") as show:
        tally = Tally(pictures.recipe, len(pictures))
        hashes = np.empty(len(pictures), np.uint64)
        for places, (found, theirs) in swept(pictures, _looked_at, workers=workers, show=show):
            tally.add(places, found)
            hashes[places] = theirs
    page = _page(_seen(pictures, tally.stats(), grouped(pictures, hashes, _DISTANCE)))
    with Work(where) as work:
        _check_free(where, exist)  # once more: this has taken a while
        written(work.content, (part.encode("utf-8", "backslashreplace") for part in page))
        synced(work.content)
        work.publish()
    return where


def _check_free(where: Path, exist: str) -> None:
    if not os.path.lexists(where):
        return
    if exist == "error":
        raise DestinationError(f'{where} exists: say another path, or pass exist="overwrite"')
    if not _is_report(where):
        raise DestinationError(
            f"{where} exists and is no report of mmcache, so that it is not overwritten: say"
            " another path, or move it away"
        )


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _MARK.encode() in file.read(1_000)


# Looking -----------------------------------------------------------------------------------------


def _looked_at(located: Located) -> tuple[Any, NDArray[np.uint64]]:
    return measured(located), hashed(located)


def _seen(cache: Cache, stats: Stats, twins: Duplicates) -> _Seen:
    columns = cache.columns
    heights, widths = (columns[name].astype(np.int64) for name in ("height", "width"))
    return _Seen(cache, stats, twins, heights, widths, *_treated(cache, heights, widths))


def _treated(
    cache: Cache, heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what was done to each picture.

    By how much its pixels were multiplied, which part of it was cut away, and which part of its
    record is padding: float64 (n,) each.
    """
    different, which = np.unique(heights << 32 | widths, return_inverse=True)
    if len(different) and (heights.min() < 1 or widths.min() < 1):
        raise DamagedCacheError(f"the columns of {cache.path} are damaged: a picture has no size")
    figures = np.empty((len(different), 3))
    for number, size in enumerate(different.tolist()):
        placed = cache.recipe.place(Size(size >> 32, size & 0xFFFFFFFF))
        source, scaled, valid, record = (
            one.height * one.width
            for one in (placed.source, placed.scaled, placed.valid, placed.size)
        )
        figures[number] = scaled / source, 1 - valid / scaled, 1 - valid / record
    enlarged, cut, padded = figures[which.reshape(-1)].T
    return enlarged, cut, padded


# The page ----------------------------------------------------------------------------------------


def _page(seen: _Seen) -> Iterator[str]:
    """Yield the page, a part at a time."""
    name = escape(printable(os.fsencode(seen.cache.path.name)))
    yield (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{_MARK}'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        f" img-src data:; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{name}</title>'
        f"<style>{_STYLE}</style></head>\n<body><main><h1>{name}</h1>\n"
    )
    for section in (
        _facts, _normalising, _shapes, _worth_a_look, _near_duplicates, _classes, _samples,
        _failures,
    ):  # fmt: skip
        yield from section(seen)
    yield "</main></body></html>\n"


def _facts(seen: _Seen) -> Iterator[str]:
    cache = seen.cache
    whole = cache.files.frame.counts["rows"]
    told = {
        "pictures": f"{len(cache):,}" + ("" if cache.is_whole else f" of the {whole:,} there are"),
        "classes": f"{len(cache.classes):,}" if cache.classes else "",
        "failures": f"{len(cache.failures):,}" if len(cache.failures) else "none",
        "near duplicates": f"{len(seen.twins.extra):,}" if len(seen.twins) else "none",
        "pixels": human_bytes(cache.nbytes),
        "recipe": str(cache.recipe),
        "format": cache.files.frame.store,
        "made by": ", ".join(
            f"{name} {version}" for name, version in cache.files.frame.libraries.items()
        ),
    }
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(printable(value))}</dd></div>"
        for name, value in told.items()
        if value
    )
    yield f'<dl class="facts">{rows}</dl>\n'
    links = " ".join(f'<a href="#{place}">{name}</a>' for place, name in _contents(seen))
    yield f"<nav>{links}</nav>\n"


def _contents(seen: _Seen) -> Iterator[tuple[str, str]]:
    """Yield where what begins."""
    yield from (("pixels", "Pixels"), ("shapes", "Sizes and shapes"), ("look", "Worth a look"))
    if len(seen.twins):
        yield "duplicates", "Near duplicates"
    if seen.cache.classes:
        yield "classes", "Classes"
    yield "failures", "Failures"


def _normalising(seen: _Seen) -> Iterator[str]:
    stats = seen.stats
    yield '<h2 id="pixels">Pixels</h2>\n'
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{mean:.4f}</td><td>{std:.4f}</td>"
        f"<td>{low:,}</td><td>{high:,}</td></tr>"
        for name, mean, std, low, high in zip(
            stats.channels, stats.mean, stats.std, stats.minimum, stats.maximum, strict=True
        )
    )
    yield (
        '<table class="figures"><thead><tr><th></th><th>mean</th><th>std</th><th>least</th>'
        f"<th>greatest</th></tr></thead><tbody>{rows}</tbody></table>"
        "<p>Mean and standard deviation are fractions of white, over all pixels that are no"
        f" padding. To normalise:</p><pre>mmcache.torch.{escape(stats.code)}</pre>\n"
    )
    white = stats.histogram.shape[1] - 1
    steps = 128
    counts = stats.histogram.reshape(len(stats.channels), steps, -1).sum(axis=2)
    ticks = [(0, "0"), (steps / 2, f"{white // 2 + 1:,}"), (steps - 1, f"{white:,}")]
    shares = [(0, "0"), (_BINS / 2, "0.5"), (_BINS, "1")]
    yield '<div class="charts">'
    yield curves(counts, stats.channels, ticks, title="Numbers of the pixels")
    for title, values, most in (
        ("Brightness of pictures", stats.brightness, 1.0),
        ("Contrast of pictures", stats.contrast, 0.5),
    ):
        counts = np.histogram(values, _BINS, (0, most))[0]
        told = [f"{(place + 0.5) * most / _BINS:.2f}" for place in range(_BINS)]
        ends = [(at, f"{float(text) * most:g}") for at, text in shares]
        yield histogram(counts, ends, title=title, told=told)
    yield "</div>\n"


def _shapes(seen: _Seen) -> Iterator[str]:
    yield '<h2 id="shapes">Sizes and shapes</h2>\n<div class="charts">'
    megapixels = seen.heights * seen.widths / 1e6
    yield _log_histogram(megapixels, "Megapixels of the sources", "{:.2g}", 10)
    aspects = seen.widths / seen.heights
    yield _log_histogram(aspects, "Aspects of the sources, width over height", "{:.2g}", 2)
    yield "</div>\n"
    shapes = seen.cache.shapes
    # One number for height and width: sorting numbers is quicker than sorting lines.
    both, times = np.unique(shapes[:, 0] << 32 | shapes[:, 1], return_counts=True)
    order = np.argsort(-times, kind="stable")
    named = [
        (f"{both[one] >> 32} x {both[one] & 0xFFFFFFFF}", int(times[one]))
        for one in order[:_COMMON]
    ]
    if len(named) == 1:
        yield f"<p>Every record is {named[0][0]} (height x width).</p>\n"
        return
    more = f"; the {len(named)} most frequent" if len(both) > len(named) else ""
    yield f"<p>The records have {len(both):,} shapes (height x width){more}:</p>{bars(named)}\n"


def _log_histogram(values: NDArray[np.float64], title: str, form: str, base: int) -> str:
    """Return bars whose edges are evenly apart as logarithms."""
    logs = np.log(np.maximum(values, 1e-6)) / np.log(base)
    low, high = float(logs.min()), float(logs.max())
    if high - low < 0.1:  # noqa: PLR2004  # all are about the same
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(logs, _BINS, (low, high))
    told = [form.format(base ** float(edge)) for edge in (edges[1:] + edges[:-1]) / 2]
    ticks = [
        (place, form.format(base ** float(edges[round(place)])))
        for place in (0, _BINS // 4, _BINS // 2, _BINS * 3 // 4, _BINS)
    ]
    return histogram(counts, ticks, title=title, told=told)


# Pictures ----------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """A kind of pictures worth a look: those of the least values that are below *bound*."""

    title: str
    values: NDArray[Any]
    tell: Callable[[int], str]
    bound: float = np.inf


def _kinds(seen: _Seen) -> Iterator[_Kind]:
    def size(row: int) -> str:
        return f"{seen.heights[row]} x {seen.widths[row]}"

    def share(values: NDArray[Any], what: str) -> Callable[[int], str]:
        return lambda row: f"{100 * values[row]:.0f} % {what}"

    stats = seen.stats
    pixels = seen.heights * seen.widths
    aspects = seen.widths / seen.heights
    yield _Kind("Smallest sources", pixels, size)
    yield _Kind("Largest sources", -pixels, size)
    yield _Kind("Darkest", stats.brightness, share(stats.brightness, "bright"))
    yield _Kind("Brightest", -stats.brightness, share(stats.brightness, "bright"))
    yield _Kind("Least contrast", stats.contrast, lambda row: f"{stats.contrast[row]:.3f}")
    yield _Kind("Widest sources", -aspects, size, -1)
    yield _Kind("Tallest sources", aspects, size, 1)
    yield _Kind(
        "Most enlarged",
        -seen.enlarged,
        lambda row: f"{seen.enlarged[row] ** 0.5:.1f} times from {size(row)}",
        -1,
    )
    yield _Kind("Most cut", -seen.cut, share(seen.cut, "cut"), 0)
    yield _Kind("Most padded", -seen.padded, share(seen.padded, "padding"), 0)


def _worth_a_look(seen: _Seen) -> Iterator[str]:
    yield '<h2 id="look">Worth a look</h2>\n'
    yield (
        "<p><code>cache[17]</code> is the picture of row 17, and"
        " <code>mmcache.explain(cache, 17)</code> tells how it was made.</p>\n"
    )
    for kind in _kinds(seen):
        rows = np.argsort(kind.values, kind="stable")[:_SHOWN]
        rows = rows[kind.values[rows] < kind.bound]
        if len(rows):
            yield f"<h3>{escape(kind.title)}</h3>"
            yield _sheet(seen.cache, rows.tolist(), [kind.tell(row) for row in rows.tolist()])


def _near_duplicates(seen: _Seen) -> Iterator[str]:
    twins = seen.twins
    if not len(twins):
        return
    pictures = len(twins.extra) + len(twins)
    yield '<h2 id="duplicates">Near duplicates</h2>\n'
    yield (
        f"<p>{counted(pictures, 'picture')} in {counted(len(twins), 'group')}: in each, hashes of"
        f" what is seen differ in at most {twins.distance} of 64 bits."
        " <code>mmcache.duplicates(cache)</code> has all of them.</p>\n"
    )
    for group in twins.groups[:_GROUPS]:
        few = group[:_OF_GROUP].tolist()
        sizes = [f"{seen.heights[row]} x {seen.widths[row]}" for row in few]
        yield _sheet(seen.cache, few, sizes, more=len(group) - len(few))
    if len(twins) > _GROUPS:
        yield f'<p class="more">and {counted(len(twins) - _GROUPS, "more group")}</p>\n'


def _sheet(
    cache: Cache, rows: Sequence[int], notes: Sequence[str], *, edge: int = _EDGE, more: int = 0
) -> str:
    """Return pictures side by side, each over its key, its row and a note."""
    keys = cache.keys
    cells = "".join(
        f'<figure style="width:{edge}px"><div class="frame" style="height:{edge}px">'
        f'<img alt="" src="{_thumbnail(cache, row, edge)}"></div><figcaption>'
        f'<span class="key" title="{escape(printable(keys.raw(row)))}">'
        f"{escape(printable(keys.raw(row)))}</span>"
        f'<span class="note">{escape(note)}</span><span class="note">row {row}</span>'
        "</figcaption></figure>"
        for row, note in zip(rows, notes, strict=True)
    )
    rest = f'<p class="more">and {more:,} more</p>' if more > 0 else ""
    return f'<div class="sheet">{cells}{rest}</div>\n'


def _thumbnail(cache: Cache, row: int, edge: int) -> str:
    """Return a record, at most *edge* pixels long, as a JPEG within a URL."""
    small = thumbnail(cache[row], edge, masks=cache.recipe.mode == "P")
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


# Classes and failures ----------------------------------------------------------------------------


def _classes(seen: _Seen) -> Iterator[str]:
    labels = seen.cache.labels
    if labels is None or not seen.cache.classes:
        return
    yield '<h2 id="classes">Classes</h2>\n'
    counts = _counts(labels, len(seen.cache.classes))
    order = np.argsort(-counts, kind="stable").tolist()
    named = [(printable(seen.cache.classes[one]), int(counts[one])) for one in order]
    unnamed = len(labels) - int(counts.sum())
    if len(named) > _BARS:  # the smallest are of as much interest as the largest
        half = _BARS // 2
        yield bars(named[:half])
        between = sum(count for _, count in named[half:-half])
        what = counted(len(named) - 2 * half, "class", "classes")
        yield f'<p class="more">{what} between them, with {counted(between, "picture")}</p>\n'
        named = named[-half:]
    yield bars([*named, ("no class", unnamed)] if unnamed else named)


def _counts(labels: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return how many there are of each class; what is no class is left out."""
    given = np.asarray(labels)
    return np.bincount(given[(given >= 0) & (given < classes)], minlength=classes)


def _samples(seen: _Seen) -> Iterator[str]:
    labels = seen.cache.labels
    if labels is None or not seen.cache.classes:
        return
    counts = _counts(labels, len(seen.cache.classes))
    there = np.flatnonzero(counts).tolist()
    for label in there[:_CLASSES]:
        rows = np.flatnonzero(labels == label)
        some = rows[evenly(len(rows), _OF_CLASS)]
        yield f"<h3>{escape(printable(seen.cache.classes[label]))}</h3>"
        yield _sheet(seen.cache, some.tolist(), [""] * len(some), edge=_SMALL_EDGE)
    if len(there) > _CLASSES:
        what = counted(len(there) - _CLASSES, "more class", "more classes")
        yield f'<p class="more">and {what}</p>\n'


def _failures(seen: _Seen) -> Iterator[str]:
    failures = seen.cache.failures
    yield '<h2 id="failures">Failures</h2>\n'
    if not len(failures):
        yield "<p>Every picture of the source is in the cache.</p>\n"
        return
    stages = _counts(failures.stages, len(STAGES)).tolist()
    told = ", ".join(
        f"{many:,} at {stage}" for stage, many in zip(STAGES, stages, strict=True) if many
    )
    whole = "" if seen.cache.is_whole else ", of the whole cache"
    yield (
        f"<p>{counted(len(failures), 'picture')} could not be read{whole}: {told}.</p>\n"
        '<div class="scroll"><table class="failures"><thead><tr><th>key</th><th>stage</th>'
        "<th>reason</th><th>bytes</th></tr></thead><tbody>\n"
    )
    for key, stage, reason, size in failures[:_FAILURES].raw():
        shown = "" if size is None else f"{size:,}"
        yield (
            f"<tr><td>{escape(printable(key))}</td><td>{stage}</td>"
            f"<td>{escape(printable(reason))}</td><td class=number>{shown}</td></tr>\n"
        )
    yield "</tbody></table></div>\n"
    if len(failures) > _FAILURES:
        rest = counted(len(failures) - _FAILURES, "more picture")
        yield f'<p class="more">and {rest}: <code>mmcache failures</code> names them all</p>\n'


_STYLE = """
:root{--paper:#fff;--ink:#1d2129;--pale:#6a7280;--line:#dfe3e8;--ground:#f4f6f8;--bar:#4a7fd6}
@media (prefers-color-scheme:dark){:root{--paper:#15181d;--ink:#e6e8eb;--pale:#98a1ad;
--line:#2e343c;--ground:#1e2329;--bar:#6b9bea}}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:26px;margin:0 0 14px;overflow-wrap:anywhere}
h2{font-size:20px;margin:38px 0 10px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:20px 0 6px;overflow-wrap:anywhere}
p{margin:8px 0}code,pre{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
pre{background:var(--ground);padding:8px 12px;border-radius:6px;overflow-x:auto;margin:6px 0}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:12px 20px;
margin:0;background:var(--ground);padding:14px 18px;border-radius:8px}
dt,.more,.note,figcaption{color:var(--pale);font-size:12.5px}
.facts div:last-child{grid-column:span 2}nav{margin:14px 0;display:flex;gap:6px 18px;flex-wrap:wrap}
a{color:var(--bar);text-decoration:none}a:hover{text-decoration:underline}
dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse}th{font-weight:500;text-align:left}
.figures td,.figures th{padding:2px 0 2px 22px}.figures th:first-child{padding-left:0}
.figures td{text-align:right;font-variant-numeric:tabular-nums}
.figures thead th{color:var(--pale);font-size:12.5px;text-align:right}
.counts{width:100%;max-width:640px;margin:4px 0}.counts th{font-size:13px;padding-right:12px;
overflow-wrap:anywhere;min-width:90px;max-width:260px}
.counts td:nth-child(2){width:70%}.bar{display:block;height:11px;min-width:1px;border-radius:2px;
background:var(--bar)}
.number{text-align:right;font-variant-numeric:tabular-nums;font-size:13px;padding-left:10px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:16px 28px;
margin:14px 0}
.chart{margin:0}.chart figcaption{color:var(--ink);font-size:13px}svg{width:100%;height:auto}
svg text{fill:var(--pale);font-size:11px}svg line{stroke:var(--line)}.bars{fill:var(--bar)}
.curve{fill:var(--pale);fill-opacity:.3;stroke:var(--pale)}
.red{fill:#e05252;stroke:#e05252}.green{fill:#3fa35b;stroke:#3fa35b}
.blue{fill:#4a7fd6;stroke:#4a7fd6}
.sheet{display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start;margin:6px 0 16px}
.sheet figure{margin:0}.frame{display:flex;align-items:center;justify-content:center;
background:var(--ground);border-radius:4px}
.frame img{display:block;max-width:100%;max-height:100%}
figcaption span{display:block;overflow-wrap:anywhere}
figcaption .key{color:var(--ink);line-height:1.3;display:-webkit-box;-webkit-box-orient:vertical;
-webkit-line-clamp:2;overflow:hidden}.sheet .more{align-self:center}
.scroll{max-height:560px;overflow:auto;border:1px solid var(--line);border-radius:6px}
.failures{width:100%;font-size:13px}.failures td,.failures th{padding:4px 12px;vertical-align:top;
border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.failures thead th{position:sticky;top:0;background:var(--ground);color:var(--pale)}
@media print{.scroll{max-height:none}}
"""
