"""The loopback Hub's sockets: requests as they came, answers as they go out, two threaded servers.

An answer may be cut, reset, stalled or throttled to the byte; what it says is not decided here.
"""

import collections
import dataclasses
import email.message
import fcntl
import http.server
import json
import os
import socket
import socketserver
import struct
import termios
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, unquote

PIECE = 1 << 16  # bytes sent at once
_idle: dict[str, list["Server"]] = collections.defaultdict(list)  # by the name of the port


@dataclasses.dataclass(eq=False)
class Request:
    """A request, and what became of it.

    `path` is as it was on the wire, still quoted; `status` is None where no answer went out; `sent`
    counts the bytes of the answer's body.
    """

    port: str  # "hub" or "cdn"
    method: str
    path: str
    query: dict[str, str]
    headers: email.message.Message  # names in any case
    body: bytes = dataclasses.field(default=b"", repr=False)
    status: int | None = None
    sent: int = 0

    @property
    def name(self) -> str:
        """The path, unquoted."""
        return unquote(self.path)

    @property
    def token(self) -> str | None:
        return (self.headers["Authorization"] or "").removeprefix("Bearer ").strip() or None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    length: int | None = None  # what Content-Length says, if not the truth
    cut: int | None = None  # bytes of the body after which the connection ends; 0: no status line
    end: str = "fin"  # how it ends then: "fin" or "rst"
    pause: tuple[int, float] | None = (
        None  # after how many bytes, for how many seconds; 0: as above
    )

    def change_header(self, name: str, value: str | None) -> None:
        """Sets it, or removes it if None."""
        self.headers = {k: v for k, v in self.headers.items() if k.lower() != name.lower()}
        if value is not None:
            self.headers[name] = value


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True
    server: "Server"  # pyright: ignore[reportIncompatibleVariableOverride]

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        query = dict(parse_qsl(query, keep_blank_values=True))
        request = Request(self.server.port_name, self.command, path, query, self.headers)
        self.server.hub.requests.append(request)
        request.body = self._body()
        self._send(request, self.server.hub.answer(request))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = _serve

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self._read(int(self.headers["Content-Length"] or 0))
        chunks = []
        while size := int(self._read_line().partition(b";")[0], 16):
            chunks.append(self._read(size))
            self._read_line()
        self._read_line()
        return b"".join(chunks)

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionError("the client hung up within a request")
        return data

    def _read_line(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the client hung up within a request")
        return line

    def _send(self, request: Request, answer: Answer) -> None:
        body = b"" if request.method == "HEAD" else answer.body
        stop = len(body) if answer.cut is None else min(answer.cut, len(body))
        after, seconds = answer.pause or (0, 0)
        if after == 0:
            self.server.hub.stopping.wait(seconds)
        if answer.cut != 0:
            request.status = answer.status
            self.wfile.write(self._head(answer))
            self._send_body(request, body[: min(after, stop)])
            if after:
                self.server.hub.stopping.wait(seconds)
            self._send_body(request, body[min(after, stop) : stop])
        if answer.cut is not None and answer.end == "rst":
            self._reset()
        self.close_connection |= answer.cut is not None or answer.length is not None

    def _head(self, answer: Answer) -> bytes:
        length = len(answer.body) if answer.length is None else answer.length
        headers = {"Date": self.date_time_string(), "Content-Length": str(length)} | answer.headers
        if answer.length is not None:  # what comes after it is no answer to the next request
            headers["Connection"] = "close"
        reason = self.responses.get(answer.status, ("",))[0]
        lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _send_body(self, request: Request, data: bytes) -> None:
        position = 0
        while position < len(data):
            piece = data[position : position + self.server.piece(request)]
            request.sent += len(piece)  # before it goes, as the client may be quicker than we
            try:
                self.wfile.write(piece)
            except OSError:
                request.sent -= len(piece)
                raise
            position += len(piece)

    def _reset(self) -> None:
        """Ends the connection by RST, once the client's side has all that was sent."""
        deadline = time.monotonic() + 1
        while _unacknowledged(self.connection) and time.monotonic() < deadline:
            time.sleep(0.001)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # not shutdown, which would send FIN first


def _unacknowledged(connection: socket.socket) -> int:
    buffer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return struct.unpack("i", buffer)[0]


class Server(http.server.HTTPServer):
    """One of a Hub's two ports, served by a thread a connection until `stop`; after `release`
    another Hub may take it, which costs less than a new one."""

    request_queue_size = 128
    hub: Any  # None while it is nobody's

    @classmethod
    def of(cls, hub: Any, port_name: str) -> "Server":
        """Takes one that was released, or makes one."""
        idle = _idle[port_name]
        server = idle.pop() if idle else cls(port_name)
        server.hub = hub
        return server

    def __init__(self, port_name: str):
        self.hub, self.port_name = None, port_name
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._accepting = threading.Lock()  # held while a connection becomes one of these
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._clock, self._free = threading.Lock(), 0.0
        self._loop = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._loop.start()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would look up the host's name
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._accepting:
            if self.hub is None or self.hub.stopping.is_set():
                return self.shutdown_request(request)
            self._begin(request, client_address)

    def _begin(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._converse, args=(request, client_address), daemon=True
        )
        self._connections[thread] = request
        thread.start()

    def _converse(self, connection: Any, address: Any) -> None:
        try:
            self.finish_request(connection, address)
        except ConnectionError:
            pass  # the client hung up
        except Exception as error:
            self.hub.errors.append(error)
        finally:
            self.shutdown_request(connection)
            self._connections.pop(threading.current_thread(), None)

    def piece(self, request: Request) -> int:
        """How many bytes may go out now; waits until they may."""
        rate = self.hub.rate
        if rate is None or request.method != "GET":
            return PIECE
        size = max(1, min(PIECE, int(rate / 50)))
        with self._clock:
            self._free = max(self._free, time.monotonic()) + size / rate
            wait = self._free - time.monotonic()
        self.hub.stopping.wait(wait)
        return size

    def stop(self) -> None:
        self.shutdown()
        self._loop.join()
        self.server_close()
        self._end_connections()

    def release(self) -> None:
        """Ends what its Hub was asked, and leaves the port to another Hub of this process."""
        self._end_connections()
        self.hub, self._free = None, 0.0
        _idle[self.port_name].append(self)

    def _end_connections(self) -> None:
        with self._accepting:
            connections = list(self._connections.items())
        for thread, connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            if thread.is_alive():
                self.hub.errors.append(RuntimeError(f"{self.port_name}: a request did not end"))
