"""The command line: each command is one call into the library."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmcache
from mmcache.errors import MmcacheError, SettingError
from mmcache.facts import counted
from mmcache.limits import MAX_PIXELS
from mmcache.recipe import CHOICES, Recipe
from mmcache.records import printable
from mmcache.showing import SORTS
from mmcache.stopping import Stopping
from mmcache.stores.publishing import unfinished_at
from mmcache.terminals import way_to_draw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="mmcache",
        description="Pictures of every size, resized once into a memory-mapped cache.",
    )
    top.add_argument("--version", action="version", version=f"mmcache {mmcache.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add_plan(commands)
    _add_build(commands)
    _add_info(commands)
    _add_show(commands)
    _add_browse(commands)
    _add_stats(commands)
    _add_report(commands)
    _add_failures(commands)
    _add_explain(commands)
    _add_verify(commands)
    _add_compare(commands)
    _add_convert(commands)
    _add_export(commands)
    _add_discard(commands)
    return top


def _command(
    commands: Any, name: str, does: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=does, description=does)
    command.set_defaults(run=run)
    return command


def _add_plan(commands: Any) -> None:
    does = "tell what a build would do, reading headers alone"
    command = _command(commands, "plan", does, _plan)
    command.add_argument("source", help="a folder of pictures")
    command.add_argument("path", nargs="?", help="where the cache would be built")
    _add_recipe(command)
    _add_limits(command)
    _add_work(command)
    command.add_argument("--save", metavar="FILE", help="keep the plan in a file")
    command.add_argument("--json", action="store_true", help="print the figures as JSON")


def _add_build(commands: Any) -> None:
    does = "read every picture once and write it into a cache"
    command = _command(commands, "build", does, _build)
    command.add_argument("source", help="a folder of pictures")
    command.add_argument("path", help="where to build; the ending chooses the format, as .mmc")
    _add_recipe(command)
    command.add_argument("--store", help="the format, whatever the ending")
    _add_limits(command)
    _add_work(command)
    command.add_argument(
        "--on-error",
        choices=("skip", "raise"),
        default="skip",
        help="what to do with a picture that cannot be read (default: %(default)s and name it)",
    )
    command.add_argument(
        "--exist",
        choices=("resume", "update", "overwrite", "error"),
        default="resume",
        help="what to do where a cache is there already (default: %(default)s)",
    )


def _add_info(commands: Any) -> None:
    command = _command(commands, "info", "tell what a cache holds", _info)
    command.add_argument("cache")
    command.add_argument("--json", action="store_true", help="print it as JSON")


def _add_show(commands: Any) -> None:
    command = _command(commands, "show", "draw a contact sheet of a cache", _show)
    command.add_argument("cache")
    command.add_argument(
        "rows", nargs="?", default=":", help="a row or a slice, as 100:124 or ::10"
    )
    command.add_argument("--out", default="sheet.png", help="the picture (default: %(default)s)")
    command.add_argument("--columns", type=int, default=8, help="thumbnails in a row")
    command.add_argument(
        "--edge", type=int, default=128, help="a thumbnail's longest edge in pixels"
    )
    command.add_argument("--most", type=int, default=96, help="how many are drawn at most")
    command.add_argument("--sort", choices=SORTS, help="by what pictures are sorted")
    command.add_argument("--reverse", action="store_true", help="sort the other way round")
    command.add_argument("--by", choices=["label"], help="what pictures are grouped by")
    command.add_argument(
        "--quiet", action="store_true", help="draw nothing in the terminal, and show no progress"
    )


def _add_browse(commands: Any) -> None:
    does = "scroll through a cache in a web browser, on this machine alone"
    command = _command(commands, "browse", does, _browse)
    command.add_argument("cache")
    command.add_argument(
        "--edge", type=int, default=128, help="a thumbnail's longest edge in pixels"
    )
    command.add_argument("--port", type=int, default=0, help="of the page (default: a free one)")
    command.add_argument("--no-open", action="store_true", help="print the address, and no more")


def _add_stats(commands: Any) -> None:
    does = "tell what the pixels are like: mean and deviation of each channel, brightness"
    command = _command(commands, "stats", does, _stats)
    command.add_argument("cache")
    command.add_argument("rows", nargs="?", default=":", help="a row or a slice, as ::100")
    command.add_argument(
        "--padding", action="store_true", help="count what was filled up with background, too"
    )
    command.add_argument("--workers", type=int, help="how many look at once (default: one a core)")
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_report(commands: Any) -> None:
    does = "write a page about a cache: what is in it, and which pictures are worth a look"
    command = _command(commands, "report", does, _report)
    command.add_argument("cache")
    command.add_argument("--out", default="report.html", help="the page (default: %(default)s)")
    command.add_argument(
        "--exist",
        choices=("error", "overwrite"),
        default="error",
        help="what to do where a report is there already (default: %(default)s)",
    )
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_failures(commands: Any) -> None:
    does = "name the pictures that could not be read, and why"
    command = _command(commands, "failures", does, _failures)
    command.add_argument("cache")
    command.add_argument("--json", action="store_true", help="print them as JSON")


def _add_explain(commands: Any) -> None:
    does = "tell what a record was made from, and how"
    command = _command(commands, "explain", does, _explain)
    command.add_argument("cache")
    command.add_argument("row", help="a row's number, or a key")
    command.add_argument("--json", action="store_true", help="print it as JSON")


def _add_verify(commands: Any) -> None:
    does = "read every byte of a cache, and tell what is not as it was written"
    command = _command(commands, "verify", does, _verify)
    command.add_argument("cache")
    command.add_argument(
        "--repair",
        metavar="SOURCE",
        help="make what is damaged anew from the folder that it was built from",
    )
    command.add_argument("--workers", type=int, help="how many read at once (default: one a core)")
    _add_look(command)


def _add_compare(commands: Any) -> None:
    does = "tell how a folder differs now from what a cache was built from"
    command = _command(commands, "compare", does, _compare)
    command.add_argument("cache")
    command.add_argument("source", help="a folder of pictures")
    _add_look(command)


def _add_look(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--like", metavar="CACHE", help="pictures that these go with, if the cache was built so"
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_convert(commands: Any) -> None:
    does = "write a cache, or rows of it, in another format; nothing is decoded"
    command = _command(commands, "convert", does, _convert)
    _add_copy(command, "where to write; the ending chooses the format: .mmc, .h5, .hdf5, .zarr")
    command.add_argument("--store", help="the format, whatever the ending")
    command.add_argument(
        "--exist",
        choices=("error", "overwrite"),
        default="error",
        help="what to do where a cache is there already (default: %(default)s)",
    )


def _add_export(commands: Any) -> None:
    does = "write the pictures to a folder of image files, or to a compressed Zarr group"
    command = _command(commands, "export", does, _export)
    _add_copy(command, "a folder that is not there yet, or a path ending in .zarr")
    command.add_argument(
        "--format",
        choices=("png", "jpeg", "zarr"),
        help="of the files (default: png, or zarr where the path ends so)",
    )
    command.add_argument(
        "--quality", type=int, default=95, help="of JPEG, 1 to 100 (default: %(default)s)"
    )
    command.add_argument(
        "--compression",
        choices=("zstd", "gzip", "blosc"),
        default="zstd",
        help="of Zarr (default: %(default)s)",
    )


def _add_discard(commands: Any) -> None:
    does = "remove what an unfinished build has left"
    command = _command(commands, "discard", does, _discard)
    command.add_argument("path", help="where the cache was being built")


def _add_copy(command: argparse.ArgumentParser, where: str) -> None:
    command.add_argument("cache")
    command.add_argument("path", help=where)
    command.add_argument("rows", nargs="?", default=":", help="a row or a slice, as 100:124")
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_recipe(command: argparse.ArgumentParser) -> None:
    """Add an option for each of the recipe's settings, from the recipe itself."""
    for setting in dataclasses.fields(Recipe):
        flag = "--" + setting.name.replace("_", "-")
        explained = setting.metadata["help"]
        if setting.name == "upscale":
            command.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=None, help=explained
            )
            continue
        kinds: dict[str, Callable[[str], Any]] = {
            "size": _edges,
            "background": _colour,
            "multiple_of": int,
            "value_range": _range,
            "frame": int,
            "buckets": _buckets,
        }
        command.add_argument(
            flag,
            type=kinds.get(setting.name, str),
            choices=CHOICES.get(setting.name),
            # A recipe names who resamples; a build may choose.
            default="auto" if setting.name == "resampler" else setting.default,
            metavar=None if setting.name in CHOICES else setting.name.upper(),
            help=f"{explained} (default: %(default)s)",
        )


def _add_work(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, help="how many work at once (default: one a core)")
    command.add_argument(
        "--executor",
        choices=("serial", "threads", "processes"),
        default="threads",
        help="who decodes (default: %(default)s)",
    )
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--like",
        metavar="CACHE",
        help="pictures that these go with, as masks do: rows, keys and sizes are theirs",
    )
    command.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        help="the most pixels that a picture may have (default: %(default)s)",
    )
    command.add_argument(
        "--max-memory",
        type=_number_or_text,
        metavar="SIZE",
        help="the most memory that the build takes, as 1.5GB (default: 4 GB, or half of what there"
        " is)",
    )
    command.add_argument(
        "--max-failures",
        type=int,
        metavar="COUNT",
        help="end when more pictures than this cannot be read (default: never)",
    )


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _buckets(text: str) -> int | tuple[int | tuple[int, ...], ...]:
    """Read ``8``, or ``192x320,256x256`` as shapes."""
    shapes = tuple(_edges(one) for one in text.split(","))
    return shapes[0] if len(shapes) == 1 and isinstance(shapes[0], int) else shapes


def _range(text: str) -> tuple[float, float]:
    """Read ``0,4095``."""
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no range of numbers as 0,4095") from error
    return low, high


def _edges(text: str) -> int | tuple[int, ...]:
    """Read ``256``, or ``192x256`` as height and width."""
    try:
        edges = tuple(int(edge) for edge in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text} is neither an edge in pixels, as 256, nor height x width, as 192x256"
        ) from error
    return edges[0] if len(edges) == 1 else edges


def _colour(text: str) -> tuple[int, ...] | str | int:
    """Read a colour's name, a number, or numbers with commas between."""
    if not text.replace(",", "").isdecimal():
        return text
    numbers = tuple(int(number) for number in text.split(","))
    return numbers[0] if len(numbers) == 1 else numbers


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    named = {setting.name: getattr(given, setting.name) for setting in dataclasses.fields(Recipe)}
    work = {
        "workers": given.workers,
        "executor": given.executor,
        "progress": not given.quiet,
        "like": given.like,
        "max_pixels": given.max_pixels,
        "max_memory": given.max_memory,
        "max_failures": given.max_failures,
    }
    return named | work


def _tell(what: Any, given: argparse.Namespace) -> None:
    """Print it as it shows itself, or as JSON."""
    print(json.dumps(what.to_json(), indent=1) if given.json else what)


def _plan(given: argparse.Namespace) -> None:
    planned = mmcache.plan(given.source, given.path, **_settings(given))
    if given.save:
        planned.save(given.save)
    _tell(planned, given)


def _build(given: argparse.Namespace) -> None:
    with warnings.catch_warnings():
        # Said below in this command's own words.
        warnings.simplefilter("ignore", mmcache.PicturesSkippedWarning)
        cache = mmcache.build(
            given.source,
            given.path,
            store=given.store,
            on_error=given.on_error,
            exist=given.exist,
            **_settings(given),
        )
    print(cache)
    if failed := len(cache.failures):
        print(
            f"{counted(failed, 'picture')} of {len(cache) + failed:,} could not be read:"
            f" `mmcache failures {given.path}` names them",
            file=sys.stderr,
        )


def _info(given: argparse.Namespace) -> None:
    _tell(mmcache.open(given.cache), given)


def _failures(given: argparse.Namespace) -> None:
    failures = mmcache.open(given.cache).failures
    print(json.dumps(failures.to_json(), indent=1) if given.json else failures.to_text())


def _report(given: argparse.Namespace) -> None:
    cache = mmcache.open(given.cache)
    where = mmcache.report(cache, given.out, exist=given.exist, progress=not given.quiet)
    print(f"{counted(len(cache), 'picture')} in {printable(os.fsencode(where))}")


def _explain(given: argparse.Namespace) -> None:
    cache = mmcache.open(given.cache)
    # A number is a row, unless a picture is called so.
    key = os.fsencode(given.row)
    number = given.row.removeprefix("-").isdecimal() and key not in cache
    explained = mmcache.explain(cache, int(given.row) if number else key)
    _tell(explained, given)


def _verify(given: argparse.Namespace) -> int:
    """Return 1 where anything is not as it was written, and stays so."""
    shared = {"workers": given.workers, "progress": not given.quiet}
    report = mmcache.verify(given.cache, **shared)
    _tell(report, given)
    if report.ok or given.repair is None:
        return 0 if report.ok else 1
    mmcache.repair(given.cache, given.repair, report=report, like=given.like, **shared)
    print(f"{given.cache} is whole again", file=sys.stderr)
    return 0


def _compare(given: argparse.Namespace) -> int:
    """Return 1 where there is a difference, as cmp and diff do."""
    told = mmcache.compare(given.cache, given.source, like=given.like, progress=not given.quiet)
    _tell(told, given)
    return 0 if told.same else 1


def _convert(given: argparse.Namespace) -> None:
    copy = mmcache.convert(
        _part(given),
        given.path,
        store=given.store,
        exist=given.exist,
        progress=not given.quiet,
    )
    print(copy)


def _export(given: argparse.Namespace) -> None:
    part = _part(given)
    where = mmcache.export(
        part,
        given.path,
        format=given.format,
        quality=given.quality,
        compression=given.compression,
        progress=not given.quiet,
    )
    print(f"{counted(len(part), 'picture')} in {printable(os.fsencode(where))}")


def _discard(given: argparse.Namespace) -> None:
    removed = mmcache.discard(given.path)
    print(f"{'removed the' if removed else 'there is no'} unfinished build of {given.path}")


def _show(given: argparse.Namespace) -> None:
    part = _part(given)
    named = ("columns", "edge", "most", "sort", "reverse", "by")
    settings = {name: getattr(given, name) for name in named}
    sheet = mmcache.show(part, progress=not given.quiet, **settings)
    try:
        sheet.save(given.out)
    except ValueError as error:
        raise SettingError(f"--out {given.out}: {error}; end it in .png or .jpg") from error
    if sys.stdout.isatty() and not given.quiet:
        size = shutil.get_terminal_size()
        if way := way_to_draw(os.environ, sys.stdout.encoding):
            print(sheet.for_terminal(way, size.columns, size.lines), end="")
    print(f"{sheet.pictures} of {len(part)} pictures in {given.out}")


def _browse(given: argparse.Namespace) -> None:
    # An http server is slow to import, and no other command needs one.
    from mmcache.serving import serve  # noqa: PLC0415

    cache = mmcache.open(given.cache)
    serve(cache, port=given.port, edge=given.edge, open_page=not given.no_open)


def _stats(given: argparse.Namespace) -> None:
    told = mmcache.stats(
        _part(given), padding=given.padding, workers=given.workers, progress=not given.quiet
    )
    _tell(told, given)


def _part(given: argparse.Namespace) -> mmcache.Cache:
    """Open the cache and return the rows of it that are meant."""
    cache = mmcache.open(given.cache)
    index = _rows(given.rows)
    part = cache[[index]] if isinstance(index, int) else cache[index]
    if not len(part):
        raise SettingError(f"rows {given.rows} are none of the {len(cache)} in {given.cache}")
    return part


def _rows(text: str) -> int | slice:
    try:
        numbers = [int(part) if part else None for part in text.split(":")]
        rows = slice(*numbers) if len(numbers) > 1 else int(text)
        if isinstance(rows, slice):
            rows.indices(0)  # which refuses a step of 0
    except (ValueError, TypeError) as error:
        raise SettingError(f"{text} is neither a row nor a slice of rows as 100:124") from error
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done; 1: it could not be done, said in one sentence; 2: wrong usage; 130: interrupted;
    143: ended by SIGTERM.
    A command that compares returns 1 where there is a difference.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # which may not know every letter of a path
        sys.stdout.reconfigure(errors="backslashreplace")
    given = argparse.Namespace()
    with Stopping() as stopping, warnings.catch_warnings():
        try:
            parser().parse_args(arguments, given)
            status: int = given.run(given) or 0
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001  # an interruption can become any of them
            if stopping.by is None and not isinstance(error, KeyboardInterrupt):
                return _refused(error)
            warnings.simplefilter("ignore")  # what libraries had under way is no news
            print(f"mmcache: interrupted; {_left(given)}", file=sys.stderr)
            return stopping.status
    return status


def _refused(error: BaseException) -> int:
    """Say in a sentence why it could not be done, if that is no defect, and return the status."""
    if isinstance(error, BrokenPipeError):  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif isinstance(error, MmcacheError):
        print(f"mmcache: error: {error}", file=sys.stderr)
    elif isinstance(error, OSError):
        what = f"{printable(os.fsencode(error.filename))}: " if error.filename else ""
        print(f"mmcache: error: {what}{error.strerror or error}", file=sys.stderr)
    else:
        raise error
    return 2 if isinstance(error, SettingError) else 1


def _left(given: argparse.Namespace) -> str:
    """Tell what a command that was interrupted has left beside its destination."""
    path = getattr(given, "path", None)
    if path is not None and unfinished_at(Path(os.path.realpath(path))):
        return "run the same command to resume"
    return "nothing unfinished is left"
