"""The gallery as a web page of this machine alone, for people without a notebook.

A server of the standard library listens on the loopback interface. Its address has a token that
cannot be guessed; without it, there is nothing. It answers a few fixed routes, opens no path that a
request names, changes nothing, and asks no other machine for anything.
"""

from __future__ import annotations

import html
import json
import os
import secrets
import socket
import sys
import threading
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from mmcache.answering import Answers
from mmcache.errors import SettingError
from mmcache.front import front_file
from mmcache.gallery import EDGES, Gallery
from mmcache.records import printable
from mmcache.settings import whole_number

if TYPE_CHECKING:
    from mmcache.cache import Cache

__all__ = ["Server", "serve"]

_HOST = "127.0.0.1"
_LARGEST = 1 << 16  # bytes of a message
_AT_ONCE = 32  # connections; a browser opens six
_PATIENCE = 10.0  # seconds for a request to arrive
_LARGEST_PORT = 65_535
_FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "browse.js": ("browse.js", "text/javascript; charset=utf-8"),
    "browse.css": ("browse.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    # Nothing from elsewhere, nothing written into the page, and no page around this one.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves one cache on this machine, until it is shut down.

    Parameters
    ----------
    cache : Cache
    port : int
        0 chooses one that is free.
    edge : int
        The longest edge of a thumbnail in pixels, from 16 to 512.

    Attributes
    ----------
    url : str
        The page's address, with its token: who has it can look at the cache.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    OSError
        Where the port is taken.
    """

    daemon_threads = True  # Ctrl-C waits for no browser
    block_on_close = False
    request_queue_size = _AT_ONCE
    allow_reuse_address = os.name == "posix"  # elsewhere it would share the port with others

    def __init__(self, cache: Cache, *, port: int = 0, edge: int = 128) -> None:
        if whole_number("port", port, 0) > _LARGEST_PORT:
            raise SettingError(f"port={port} is no port: they go up to {_LARGEST_PORT}")
        if whole_number("edge", edge, EDGES.start) not in EDGES:
            raise SettingError(f"edge={edge} is too large: thumbnails have {EDGES[-1]} at most")
        self.title = printable(cache.path.name)
        self.answers = Answers(Gallery(cache))
        self.token = secrets.token_urlsafe(24)
        self.files = {name: (front_file(file), kind) for name, (file, kind) in _FILES.items()}
        page, kind = self.files[""]
        # The edge first: a title may hold whatever it likes.
        page = page.replace(b"@edge@", b"%d" % edge)
        page = page.replace(b"@title@", html.escape(self.title).encode())
        self.files[""] = page, kind
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"port {port}") from error
        self.url = f"http://{_HOST}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind, without asking a name server for this machine's name as the base class does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, self.allow_reuse_address)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.server_address = (self.server_name, self.server_port)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own; of too many at once the last is hung up on."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Do the same on that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser hung up before its answer came."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def serve(cache: Cache, *, port: int = 0, edge: int = 128, open_page: bool = True) -> None:
    """Serve a page to browse *cache*, print its address, and go on until interrupted.

    Parameters
    ----------
    cache : Cache
    port, edge : int
        As for :class:`Server`, with its errors.
    open_page : bool
        Whether to open the page in the browser that is there, if one is.
    """
    with Server(cache, port=port, edge=edge) as server:
        print(f"{server.title}: {server.url}")  # noqa: T201  # for a person
        print("Ctrl-C ends it", flush=True)  # noqa: T201
        if open_page and _has_screen():
            # Some browsers are waited for, and this one is to be served.
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        server.serve_forever()


def _has_screen() -> bool:
    """Tell whether a browser could be seen: one in a terminal would take this terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; the connection ends with it."""

    server: Server
    timeout = _PATIENCE
    server_version = "mmcache"
    sys_version = ""

    def do_GET(self) -> None:
        """Give one of the page's files."""
        name = self._allowed()
        if name is None:
            return
        if name in self.server.files:
            body, kind = self.server.files[name]
            self._send(HTTPStatus.OK, body, kind)
        elif name == "ask":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="POST")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Answer a message: 4 bytes of length, JSON of that length, and bytes that go with it."""
        name = self._allowed()
        if name is None:
            return
        if name in self.server.files:
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET")
        elif name != "ask":
            self._refuse(HTTPStatus.NOT_FOUND)
        elif (message := self._message()) is not None:
            self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        told, data = self.server.answers.answer(message)
        text = json.dumps(told).encode()
        self._send(
            HTTPStatus.OK,
            len(text).to_bytes(4, "little") + text + data,
            "application/octet-stream",
        )

    def _allowed(self) -> str | None:
        """Return the route that is asked for, or refuse and return None."""
        # A page elsewhere may have its own name point to this machine: its requests say that name.
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in (_HOST, "localhost"):
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        if self.headers.get("Origin", f"http://{host}") != f"http://{host}":
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        root, _, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        token = root.encode("utf-8", "surrogateescape")
        if not secrets.compare_digest(token, self.server.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return rest

    def _message(self) -> dict[str, Any] | None:
        """Return the message that is in the body, or refuse and return None."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif len(length) > len(str(_LARGEST)) or int(length) > _LARGEST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif self.headers.get_content_type() != "application/json":
            # Another page could send a form without asking first, and cannot send JSON.
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        else:
            try:
                message = json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                message = None
            if isinstance(message, dict):
                return message
            self._refuse(HTTPStatus.BAD_REQUEST)
        return None

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        self._send(status, f"{status.phrase}\n".encode(), "text/plain; charset=utf-8", headers)

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        all_headers = {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in (all_headers | _HEADERS | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002  # it may hold what the request said
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Refuse what the base class refuses, methods and lines that are none, in as few words."""
        status = HTTPStatus(code)
        if status == HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self._refuse(status, Allow="GET, POST")

    def log_message(self, *_: Any) -> None:
        """Say nothing: an address in a log would tell the token."""
