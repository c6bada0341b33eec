"""A plain web server on a loopback port, with ranges or without, and a proxy; both write down what
they are asked."""

import http.server
import re
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True  # else each answer waits 40 ms for its head's acknowledgement

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Web:
    """Serves `files`, {path: bytes}.

    Attributes:
        asked: (method, path, headers) of each request.
        ranges: whether the server knows them.
        sized: whether it says how long a whole file is.
        answers: {path: status} of what is refused; a list is used up, then the file is served.
    """

    def __init__(self, files: Mapping[str, bytes]):
        self.files = dict(files)
        self.asked: list[tuple[str, str, Any]] = []
        self.ranges = self.sized = True
        self.answers: dict[str, list[int]] = {}
        self.url = ""

    def paths(self) -> set[str]:
        return {path for _, path, _ in self.asked}

    def whole(self) -> list[str]:
        """What was asked for without a range."""
        return [path for _, path, headers in self.asked if headers["Range"] is None]


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Web]:
    web = Web(files)

    class Handler(_Handler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].lstrip("/")
            web.asked.append((self.command, path, self.headers))
            if web.answers.get(path):
                return self.send_error(web.answers[path].pop(0))
            if path not in web.files:
                return self.send_error(404)
            self.send(web.files[path])

        def send(self, data: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
            if not web.ranges or not asked:
                self.send_response(200)
            elif int(asked[1]) >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                data = b""
            else:
                start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
                data = data[start:stop]
            if web.sized:
                self.send_header("Content-Length", str(len(data)))
            else:  # its end is the connection's
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

    with _running(Handler) as web.url:
        yield web


@contextmanager
def proxying() -> Iterator[tuple[str, list[str]]]:
    """(its host and port, the addresses it was asked for)."""
    asked: list[str] = []
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

    class Handler(_Handler):
        protocol_version = "HTTP/1.0"

        def forward(self) -> None:
            asked.append(self.path)
            kept = {
                k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")
            }
            request = urllib.request.Request(self.path, headers=kept, method=self.command)
            with direct.open(request) as answer:
                body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = forward

    with _running(Handler) as url:
        yield url.removeprefix("http://"), asked


class _NoRedirects(urllib.request.HTTPErrorProcessor):
    """Whatever the status, it is an answer to pass on."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # of more connections at once, some wait a second for their second try
    daemon_threads = True


@contextmanager
def _running(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
