"""What a reader does with a cache, whatever state it is in, and what may not come of it.

Fine is an error of mmcache's, and fine is an answer of the shape that it must have. Anything else
is a complaint; so is a secret that lies outside of the cache and is in what it gives.
"""

from __future__ import annotations

import itertools
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

import mmcache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["complaint", "complaints"]

MOST = 50  # pictures, keys or failures that are looked at

Seen = str | bytes | np.ndarray[Any, Any]


def complaints(path: Path, secret: bytes = b"") -> tuple[bool, list[str]]:
    """Open a cache and use all of it: whether it was refused at once, and what was bad."""
    opened: list[mmcache.Cache] = []
    if (bad := complaint("open", lambda: opened.append(mmcache.open(path)))) or not opened:
        return not opened, [bad] if bad else []
    uses: Iterable[tuple[str, Callable[[], object]]] = (
        (name, lambda use=use: _without(secret, use(opened[0]))) for name, use in USES.items()
    )
    told = (complaint(name, use) for name, use in uses)
    return False, [one for one in told if one]


def complaint(name: str, use: Callable[[], object]) -> str:
    """Return what is wrong with how a use ended; nothing where it was well, or refused."""
    try:
        use()
    except mmcache.MmcacheError:
        return ""
    except Exception as error:  # noqa: BLE001  # which is just what may not be
        return f"{name}: {type(error).__name__}: {str(error)[:200]}"
    return ""


def _without(secret: bytes, seen: Iterable[Seen]) -> None:
    for one in seen:
        data = one.encode("utf-8", "surrogatepass") if isinstance(one, str) else bytes(one)
        assert not secret or secret not in data, "the secret outside is in it"


# Ways of using a cache: each gives what it has seen -----------------------------------------------


def _pictures(cache: mmcache.Cache) -> Iterator[Seen]:
    recipe = cache.recipe
    for row in range(min(len(cache), MOST)):
        try:
            picture = cache[row]
        except mmcache.MmcacheError:  # the next may be well
            continue
        told = (*cache.shapes[row, :2].tolist(), recipe.channels)
        assert picture.shape == told, (row, picture.shape, told)
        assert recipe.shape in (None, picture.shape), (row, picture.shape)
        assert picture.dtype == recipe.dtype, (row, picture.dtype)
        assert not picture.flags.writeable, row
        yield picture


def _keys(cache: mmcache.Cache) -> Iterator[Seen]:
    assert len(cache.keys) == len(cache)
    for key in itertools.islice(cache.keys, MOST):
        yield key
        try:
            yield cache[key]
        except mmcache.MmcacheError:
            continue


def _columns(cache: mmcache.Cache) -> Iterator[Seen]:
    labels = {} if cache.labels is None else {"labels": cache.labels}
    for name, column in {**cache.columns, **labels, "checksums": cache.checksums}.items():
        assert column.shape == (len(cache),), (name, column.shape)
        yield column[:MOST]
    assert cache.shapes.shape == (len(cache), 3), cache.shapes.shape


def _failures(cache: mmcache.Cache) -> Iterator[Seen]:
    for failure in cache.failures[:MOST]:
        assert failure.stage in ("list", "header", "decode", "write"), failure.stage
        yield failure.key + failure.reason
    yield repr(cache.failures)
    yield str(cache.failures[:MOST].to_json())


def _batch(cache: mmcache.Cache) -> Iterator[Seen]:
    batch = cache.batch(slice(MOST))
    count = min(len(cache), MOST)
    assert [len(batch.images), *batch.sizes.shape] == [count, count, 2]
    assert len(batch.rows) == len(batch.keys) == count
    yield from batch.images


def _one_array(cache: mmcache.Cache) -> Iterator[Seen]:
    part = cache[:MOST]
    whole = np.asarray(part)
    assert whole.shape == (len(part), *part[0].shape), whole.shape
    yield from whole


def _narrower(cache: mmcache.Cache) -> Iterator[Seen]:
    part = cache[::-1][:MOST]
    assert len(part) == len(part.keys) == len(part.shapes) == min(len(cache), MOST)
    yield from part.keys
    yield from pickle.loads(pickle.dumps(part))  # noqa: S301  # its own


def _placements(cache: mmcache.Cache) -> Iterator[Seen]:
    for row in range(min(len(cache), MOST)):
        try:
            assert min(cache.placement(row).size) > 0, row
            yield str(mmcache.explain(cache, row))
        except mmcache.MmcacheError:
            continue


def _shown(cache: mmcache.Cache) -> Iterator[Seen]:
    assert cache.nbytes >= 0
    yield repr(cache)
    yield str(cache.to_json())


def _drawn(cache: mmcache.Cache) -> Iterator[Seen]:
    yield cache._repr_html_()
    yield mmcache.show(cache).tobytes()


USES: dict[str, Callable[[mmcache.Cache], Iterator[Seen]]] = {
    "pictures": _pictures,
    "keys": _keys,
    "columns": _columns,
    "failures": _failures,
    "batch": _batch,
    "one array": _one_array,
    "a narrower cache": _narrower,
    "placements": _placements,
    "shown": _shown,
    "drawn": _drawn,
}
