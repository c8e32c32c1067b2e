"""An origin that parses strictly, records every request, and answers by the first element of the path alone, so that
two proxies in front of it can be compared."""
import re
import socket
import threading


class Broken(Exception):
    """The bytes are no request."""


class Reader:
    """Buffered bytes of a connection."""

    def __init__(self, connection):
        self.connection, self.buffer = connection, b""

    def more(self):
        data = self.connection.recv(262144)
        self.buffer += data
        return bool(data)

    def until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                raise EOFError
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def take(self, count):
        while len(self.buffer) < count:
            if not self.more():
                raise EOFError
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found


def parse_fields(lines):
    found = []
    for line in lines:
        if not re.match(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:", line):
            raise Broken(f"field {line[:60]!r}")
        name, value = line.split(b":", 1)
        found.append((name.lower().decode(), value.strip(b" \t").decode("latin-1")))
    return found


def read_chunks(reader):
    body = b""
    while True:
        line = reader.until(b"\r\n")
        if not re.fullmatch(rb"[0-9a-fA-F]{1,16}(;.*)?", line):
            raise Broken(f"chunk line {line[:60]!r}")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        body += reader.take(size)
        if reader.take(2) != b"\r\n":
            raise Broken("no CRLF after a chunk")
    trailers = []
    while line := reader.until(b"\r\n"):
        trailers.append(line)
    return body, parse_fields(trailers)


def read_body(reader, fields):
    codings = [value for name, value in fields if name == "transfer-encoding"]
    lengths = [value for name, value in fields if name == "content-length"]
    if len(codings) + len(lengths) > 1:
        raise Broken("two framing fields")
    if codings:
        return read_chunks(reader)
    return (reader.take(int(lengths[0])) if lengths else b""), []


def answer(kind, method):
    """Bytes of the answer, and whether the connection ends with it."""
    head = method == "HEAD"
    if kind == "none":
        return b"HTTP/1.1 204 No Content\r\nX-Kind: none\r\n\r\n"
    if kind == "unchanged":
        return b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"
    if kind == "empty":
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    if kind == "chunks":
        body = b"" if head else b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    if kind == "cookies":
        body = b"" if head else b"two"
        return b"HTTP/1.1 201 Created\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n\r\n" + body
    size = 200000 if kind == "large" else 11
    body = b"" if head else (b"hello world" * (size // 11 + 1))[:size]
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size + body


class Recorder:
    """The running origin: `seen[tag]` is a request by its X-Case, `broken` what was no request."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.seen, self.broken, self.lock = {}, [], threading.Lock()
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        reader = Reader(connection)
        try:
            while True:
                first, *lines = reader.until(b"\r\n\r\n").split(b"\r\n")
                method, target, version = first.decode("latin-1").split(" ")
                fields = parse_fields(lines)
                body, trailers = read_body(reader, fields)
                tag = dict(fields).get("x-case")
                with self.lock:
                    self.seen.setdefault(tag, []).append((method, target, version, fields, body, trailers))
                path = re.sub(r"^https?://[^/?]*", "", target)
                connection.sendall(answer(path.split("/")[1].split("?")[0] if "/" in path else "length", method))
        except (EOFError, ConnectionError):
            pass
        except (Broken, ValueError) as error:
            with self.lock:
                self.broken.append(str(error))
        finally:
            connection.close()

    def take(self):
        with self.lock:
            seen, self.seen = self.seen, {}
            return seen
