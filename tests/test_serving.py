"""The page of `mmcache browse`, attacked: what has no token, another name or another method."""

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import mmcache
from mmcache import serving
from mmcache.serving import Server
from mmcache.testing import paint_folder


@pytest.fixture(scope="module")
def server(uniform):
    with Server(uniform, edge=96) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def request(server, method, path, body=None, **headers):
    """Send one request as it is; return its status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def ask(server, message, **headers):
    """Ask as the page asks; return status, plain data and bytes."""
    kind = {"Content-Type": "application/json"}
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    status, _, data = request(server, "POST", f"/{server.token}/ask", body, **kind | headers)
    if status != 200:
        return status, None, data
    length = int.from_bytes(data[:4], "little")
    return status, json.loads(data[4 : 4 + length]), data[4 + length :]


def test_the_address_has_a_token_that_cannot_be_guessed(server, uniform):
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert len(server.token) >= 32
    with Server(uniform) as other:
        assert other.token != server.token
        assert other.server_port != server.server_port


def test_the_page_has_all_it_needs_and_lets_nothing_else_in(server):
    for name, kind in (
        ("", "text/html"), ("page.js", "text/javascript"), ("browse.js", "text/javascript"),
        ("browse.css", "text/css"),
    ):  # fmt: skip
        status, headers, body = request(server, "GET", f"/{server.token}/{name}")
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
        assert b"http://" not in body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in body
    page = request(server, "GET", f"/{server.token}/")[2].decode()
    assert 'data-edge="96"' in page
    assert "photos.mmc" in page
    assert "<script>" not in page


def test_a_hostile_name_is_text_on_the_page(painted, tmp_path):
    cache = mmcache.build(painted / "waves", tmp_path / "<script>@edge@&.mmc", progress=False)
    with Server(cache) as server:
        page = server.files[""][0].decode()
    assert "<title>&lt;script&gt;@edge@&amp;.mmc - mmcache</title>" in page


def test_questions_are_answered_by_plain_data_and_bytes(server):
    status, told, data = ask(server, {"ask": "cells", "start": 0, "stop": 5, "edge": 64})
    assert status == 200
    assert len(told["cells"]) == 5
    assert data[:2] == b"\xff\xd8"
    assert ask(server, {"ask": "nothing"})[1]["error"].startswith("there is no answer")


@pytest.mark.parametrize(
    "path",
    ["/", "", "/ask", "/x/ask", "//ask", "/browse.js", "/%2e%2e/", "/..", "/é", "*", "/TOKEN",
     "/TOKEN%00/", "/tOKEN/", "/TOKEN /", "/TOKENx/", "http://127.0.0.1/"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_the_token_there_is_nothing(server, method, path):
    other = "y" if server.token.endswith("x") else "x"  # than the token's last letter
    path = path.replace("TOKENx", "TOKEN" + other).replace("TOKEN", server.token[:-1])
    status, body = raw(server, f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:1\r\n\r\n".encode())
    assert status in (400, 404, None)
    assert b"mmcache" not in body


def raw(server, data):
    """Send bytes as they are; return the status and the body of the answer."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(data)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):  # a request of no version is answered without a head
        return None, answer
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..%2f..%2fetc/passwd", "%2e%2e/pyproject.toml", "/etc/passwd", "front/",
     "__init__.py", "browse.js/", "browse.js%00", "records.npy", "mmcache.json", "ask/..",
     "page.html", "\\windows"],
)  # fmt: skip
def test_no_path_leads_anywhere(server, name):
    for method in ("GET", "POST"):
        status, _, body = request(server, method, f"/{server.token}/{name}")
        assert (status, body) == (404, b"Not Found\n")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example:8000", "", "localhost.evil:1",
     "[::1]:8000", "0.0.0.0:8000", "127.0.0.1@evil.example:80", "evil.example:127.0.0.1"],
)  # fmt: skip
def test_another_name_for_this_machine_is_refused(server, host):
    status, _, body = request(server, "GET", f"/{server.token}/", Host=host)
    assert (status, body) == (403, b"Forbidden\n")
    assert ask(server, {"ask": "outline"}, Host=host)[0] == 403


def test_a_tunnel_of_another_port_is_let_in(server):
    assert request(server, "GET", f"/{server.token}/", Host="localhost:9999")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "file://"])
def test_another_page_cannot_ask(server, origin):
    assert ask(server, {"ask": "outline"}, Origin=origin)[0] == 403


def test_another_page_cannot_send_a_form(server):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert ask(server, {"ask": "outline"}, **{"Content-Type": kind})[0] == 415


@pytest.mark.parametrize(
    "method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "EVIL"]
)
def test_other_methods_are_refused(server, method):
    status, headers, _ = request(server, method, f"/{server.token}/")
    assert status == 405
    assert headers["Allow"] == "GET, POST"


def test_each_route_has_one_method(server):
    assert request(server, "GET", f"/{server.token}/ask")[0] == 405
    assert request(server, "POST", f"/{server.token}/browse.js", b"{}")[0] == 405


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[1]", b"null", b"7", b'{"ask": ', b"[" * 60_000, b'"' + b"x" * 9],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_message_is_refused(server, body):
    assert ask(server, body)[0] == 400


@pytest.mark.parametrize("length", ["65537", "9" * 40, "-1", "1e3", "", "٣"])
def test_a_huge_body_is_refused_before_it_is_read(server, length):
    head = (
        f"POST /{server.token}/ask HTTP/1.0\r\nHost: 127.0.0.1:1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    assert raw(server, head.encode())[0] in (411, 413)


def test_a_huge_head_is_refused(server):
    assert raw(server, b"GET /" + b"x" * 100_000)[0] == 414
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    assert raw(server, b"GET / HTTP/1.0\r\n" + lines + b"\r\n")[0] in (431, 400)
    assert raw(server, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n")[0] in (400, None)


def test_an_answer_never_repeats_what_the_request_said(server):
    said = b"<script>alert(1)</script>"
    for data in (b"GET /" + said, said + b" / HTTP/1.0", b"GET / " + said, said):
        assert said not in raw(server, data + b"\r\n\r\n")[1]


def test_one_who_sends_nothing_is_hung_up_on(server, monkeypatch):
    monkeypatch.setattr(serving._Handler, "timeout", 0.2)
    head = f"POST /{server.token}/ask HTTP/1.0\r\nHost: localhost:1\r\nContent-Type:"
    whole = f"{head} application/json\r\nContent-Length: 50\r\n\r\n{{"
    for data in ("", "GET", head, whole):
        assert raw(server, data.encode())[0] in (None, 400, 408)
    assert ask(server, {"ask": "outline"})[0] == 200


def test_of_too_many_connections_the_last_are_hung_up_on_and_all_is_well_after(server):
    with contextlib.ExitStack() as stack:
        address = "127.0.0.1", server.server_port
        idle = [stack.enter_context(socket.create_connection(address)) for _ in range(60)]
        for _ in range(50):
            hung_up_on = len(select.select(idle, [], [], 0.1)[0])
            if hung_up_on >= len(idle) - serving._AT_ONCE:
                break
            time.sleep(0.05)
        assert hung_up_on == len(idle) - serving._AT_ONCE
    for _ in range(50):
        try:
            if ask(server, {"ask": "outline"})[0] == 200:
                break
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.1)
    assert ask(server, {"ask": "outline"})[0] == 200


def test_ten_at_once_get_what_one_alone_gets(server):
    messages = [
        {"ask": "cells", "filter": {"text": text}, "start": start, "stop": start + 6, "edge": 64}
        for text in ("", "waves", "0", "zzz")
        for start in (0, 3)
    ]
    alone = [ask(server, message)[1:] for message in messages]
    with ThreadPoolExecutor(10) as pool:
        many = list(pool.map(lambda message: ask(server, message)[1:], messages * 10))
    assert many == alone * 10


def test_many_selecting_at_once_lose_nothing(uniform):
    with Server(uniform) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with ThreadPoolExecutor(10) as pool:
            list(
                pool.map(
                    lambda row: ask(
                        server, {"ask": "select", "how": "add", "ranges": [[row, row + 1]]}
                    ),
                    range(24),
                )
            )
        assert ask(server, {"ask": "copy", "as": "rows"})[2] == b"[*range(0, 24)]"
        server.shutdown()


def test_it_listens_to_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"port": 70_000}, "no port"),
        ({"port": -1}, "port=-1"),
        ({"edge": 5}, "edge=5"),
        ({"edge": 5000}, "512"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_sentence(uniform, settings, sentence):
    with pytest.raises(mmcache.SettingError, match=sentence):
        Server(uniform, **settings)


# The command -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browse")
    mmcache.build(paint_folder(folder / "in", 4, longest=60), folder / "a.mmc", progress=False)
    return folder / "a.mmc"


def command(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "mmcache", "browse", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_serves_until_it_is_interrupted(built, number, status):
    with command(built, "--no-open") as process:
        first = process.stdout.readline()
        assert first.startswith("a.mmc: http://127.0.0.1:")
        assert "Ctrl-C" in process.stdout.readline()
        host, _, path = first.split("//")[1].strip().partition("/")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("GET", f"/{path}")
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(number)
        said, complained = process.communicate(timeout=20)
    assert process.returncode == status
    assert said == ""
    assert complained == "mmcache: interrupted; nothing unfinished is left\n"


def test_a_port_that_is_taken_is_a_sentence(built):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with command(built, "--port", taken.getsockname()[1], "--no-open") as process:
            _, complained = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complained.startswith("mmcache: error: ")
    assert complained.count("\n") == 1
    assert "port" in complained


def test_a_browser_opens_where_there_is_a_screen_and_not_without(uniform, monkeypatch, capsys):
    opened = threading.Event()
    seen = []
    monkeypatch.setattr(serving.webbrowser, "open", lambda url: (seen.append(url), opened.set()))

    def interrupted(_):
        opened.wait(0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    for screen, wanted, count in ((True, True, 1), (False, True, 0), (True, False, 0)):
        seen.clear()
        opened.clear()
        monkeypatch.setattr(serving, "_has_screen", lambda screen=screen: screen)
        with pytest.raises(KeyboardInterrupt):
            serving.serve(uniform, open_page=wanted)
        assert len(seen) == count
        assert not seen or seen[0] in capsys.readouterr().out
