"""Every attack of `tests/corpus/h2-attacks.json` on one worker, while a second client asks on and its latency is watched: the
attack ends by a limit with a name that is counted, endpoints are let go, memory stays where it was."""
import asyncio
import json
import multiprocessing
import socket
import ssl
import struct
import subprocess
import time
import urllib.request

import stand

REPORT = stand.Report("attacks")
FILES = stand.directory()
CASES = json.loads((stand.ROOT / "tests" / "corpus" / "h2-attacks.json").read_text())
# Generous: a build may run on the same machine. What is measured is printed.
PATIENCE = 2.0
MEMORY = 48 << 20
# One origin connection for each stream at most.
STREAMS = 100

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR, CALM = 1, 5, 6, 7, 9, 11


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*entries):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *entry) for entry in entries))


def field(name, value):
    def text(data):
        if len(data) < 127:
            return bytes([len(data)]) + data
        rest, out = len(data) - 127, b"\x7f"
        while rest >= 128:
            out, rest = out + bytes([rest % 128 + 128]), rest // 128
        return out + bytes([rest]) + data
    return b"\x00" + text(name) + text(value)


def block(path=b"/never", method=b"GET", *more):
    fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"a"), (b":path", path), *more]
    return b"".join(field(*pair) for pair in fields)


def ask(stream, path=b"/never", *more):
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block(path, b"GET", *more))


def begin(stream):
    return frame(HEADERS, END_HEADERS, stream, block(b"/never", b"POST"))


def reset(stream, code=8):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def update(stream, by):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", by))


class Origin:
    """An endpoint in a process of its own: /small answers, /large never ends, everything else never answers."""

    def __init__(self):
        self.total, self.open, self.peak = (multiprocessing.Value("i", 0) for _ in range(3))
        self.hop = multiprocessing.Value("i", 0)
        self.port = stand.free_port()
        self.process = multiprocessing.Process(target=lambda: asyncio.run(self.serve()), daemon=True)
        self.process.start()
        stand.until("the origin", lambda: stand.accepts(self.port))

    async def serve(self):
        server = await asyncio.start_server(self.connection, "127.0.0.1", self.port, backlog=1024)
        async with server:
            await server.serve_forever()

    async def connection(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if any(name in head.lower() for name in [b"\r\nupgrade:", b"\r\nhttp2-settings:"]):
                    self.hop.value += 1
                if head.startswith((b"GET /small ", b"POST /small ")):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    await writer.drain()
                    continue
                self.total.value += 1
                self.open.value += 1
                self.peak.value = max(self.peak.value, self.open.value)
                try:
                    await self.hold(head, reader, writer)
                finally:
                    self.open.value -= 1
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def hold(self, head, reader, writer):
        """What the proxy sees of an endpoint that is slow or has no end, until it closes."""
        if not head.startswith(b"GET /large "):
            while await reader.read(65536):
                pass
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()


class Malicious:
    """An endpoint of HTTP/2, in a process of its own, that answers its first request with a flood."""

    def __init__(self, head, part):
        self.port = stand.free_port()
        multiprocessing.Process(target=self.run, args=(head, part), daemon=True).start()
        stand.until("the malicious endpoint", lambda: stand.accepts(self.port))

    def run(self, head, part):
        server = socket.create_server(("127.0.0.1", self.port))
        while True:
            client, _ = server.accept()
            try:
                heard = b""
                client.sendall(settings())
                # Its request is on stream 1: what asks for it follows the preface and SETTINGS.
                while not any(heard[i + 3] == HEADERS for i in frames_of(heard)):
                    more = client.recv(65536)
                    if not more:
                        raise OSError
                    heard += more
                client.sendall(head)
                while part:
                    client.sendall(part * 500)
                time.sleep(0.5)
            except OSError:
                pass
            client.close()


def frames_of(heard):
    """Where the frames behind a preface begin."""
    at = len(PREFACE)
    while at + 9 <= len(heard):
        yield at
        at += 9 + int.from_bytes(heard[at:at + 3], "big")


class Watcher:
    """A second client, in a process of its own."""

    def __init__(self, port):
        self.count, self.failed = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
        self.sum, self.worst = multiprocessing.Value("d", 0.0), multiprocessing.Value("d", 0.0)
        multiprocessing.Process(target=self.run, args=(port,), daemon=True).start()

    def run(self, port):
        client = None
        while True:
            start = time.monotonic()
            try:
                if client is None:
                    client = connect(port, "http/1.1")
                client.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = b""
                while not answer.endswith(b"\r\n\r\nok"):
                    part = client.recv(4096)
                    if not part:
                        raise OSError("closed")
                    answer += part
            except OSError:
                self.failed.value += 1
                client = None
            took = time.monotonic() - start
            self.count.value += 1
            self.sum.value += took
            self.worst.value = max(self.worst.value, took)
            time.sleep(0.003)

    def start(self):
        self.count.value, self.failed.value, self.sum.value, self.worst.value = 0, 0, 0.0, 0.0

    def figures(self):
        stand.until("the second client", lambda: self.count.value > 5)
        mean = self.sum.value / max(self.count.value, 1)
        return self.failed.value, self.worst.value, f"{self.count.value} answers, mean {mean * 1e3:.1f} ms, worst {self.worst.value * 1e3:.0f} ms"


def connect(port, alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="a.test")
    client.settimeout(10)
    assert client.selected_alpn_protocol() == alpn
    return client


class Connection:
    """One of the attacker's."""

    def __init__(self, port, *entries):
        self.socket = connect(port, "h2")
        self.buffer, self.away, self.resets, self.closed = b"", None, {}, False
        self.answers = {}
        self.send(PREFACE + settings(*entries))

    def send(self, data):
        """Whether it was taken: floods are cut off on the way."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def flood(self, parts, seconds=8):
        """Sends until it is cut off; how much was sent."""
        sent, end = 0, time.monotonic() + seconds
        for part in parts:
            if time.monotonic() > end or not self.send(part):
                break
            sent += 1
        return sent

    def read(self, seconds=8, enough=lambda _: False):
        """Takes what comes until the end of the connection, or enough has come."""
        end = time.monotonic() + seconds
        while not self.closed and not enough(self):
            self.socket.settimeout(max(end - time.monotonic(), 0.01))
            try:
                part = self.socket.recv(65536)
            except TimeoutError:
                break
            except OSError:
                part = b""
            self.closed = not part
            self.buffer += part
            self.take()
        self.socket.settimeout(10)
        return self

    def take(self):
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                return
            kind, _, stream = struct.unpack(">BBI", self.buffer[3:9])
            payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
            if kind == GOAWAY:
                self.away = struct.unpack(">I", payload[4:8])[0]
            elif kind == RST_STREAM:
                self.resets[stream] = struct.unpack(">I", payload)[0]
            elif kind == HEADERS:
                self.answers.setdefault(stream, payload)


class Stand:
    """The proxy, its endpoint and the second client."""

    def __init__(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
             "-subj", "/CN=a.test", "-addext", "subjectAltName=DNS:a.test", "-keyout", FILES / "a.key", "-out", FILES / "a.crt"],
            check=True, capture_output=True)
        self.tls = f'tls = {{ certificates = [{{ cert = "{FILES}/a.crt", key = "{FILES}/a.key" }}] }}\n'
        self.origin, self.other = Origin(), Origin()
        ok = frame(HEADERS, END_HEADERS, 1, b"\x88")
        self.malicious = {
            "ping": Malicious(b"", frame(PING, 0, 0, bytes(8))),
            "settings": Malicious(b"", settings()),
            "window_update": Malicious(b"", update(0, 1)),
            "continuation": Malicious(frame(HEADERS, 0, 1, b"\x88"), frame(CONTINUATION, 0, 1)),
            "push_promise": Malicious(frame(PUSH_PROMISE, END_HEADERS, 1, bytes([0, 0, 0, 2]) + block()), b""),
            "reset": Malicious(ok + reset(1), b""),
        }
        # The second client has an endpoint of its own, so that it is the proxy that is watched.
        pools = f'[[route]]\nname = "small"\npath = "/small"\npool = "other"\n[pool.other]\nendpoints = ["127.0.0.1:{self.other.port}"]\n'
        for name, endpoint in self.malicious.items():
            pools += (f'[[route]]\nname = "{name}"\npath = "/{name}"\npool = "{name}"\n[pool.{name}]\nprotocol = "http2"\nretry = "off"\n'
                      f'endpoints = ["127.0.0.1:{endpoint.port}"]\n')
        self.clear = stand.free_port()
        self.proxy = stand.Proxy(
            [self.origin.port], process="workers = 1", access="stdout",
            listener=self.tls + 'timeouts = { request_header = "1s", client_idle = "1s", keep_alive = "3s" }\n',
            pool="limits = { max_requests = 2000 }\n",
            text=pools + f'[listener.clear]\nbind = ["127.0.0.1:{self.clear}"]\nh2c = true\n'
                 'timeouts = { request_header = "1s", client_idle = "1s" }\n')
        self.port = self.proxy.port
        self.watcher = Watcher(self.port)

    def open(self, *entries):
        return Connection(self.port, *entries)

    def hits(self, limit):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.proxy.admin}/metrics", timeout=5) as answer:
            lines = [line for line in answer.read().decode().splitlines() if f'limit="{limit}"' in line]
        return float(lines[0].split()[-1]) if lines else 0.0


def ended(name, connection, codes=(CALM,)):
    REPORT.check(f"{name}: sent away", connection.closed and connection.away in codes,
                 "" if connection.closed and connection.away in codes else f"closed {connection.closed}, GOAWAY {connection.away}")


def flooded(at, name, parts, *entries):
    """Floods a connection of its own until it is sent away."""
    connection = at.open(*entries)
    connection.flood(parts)
    ended(name, connection.read())


def chunks(parts, size=100):
    parts = list(parts)
    return [b"".join(parts[i:i + size]) for i in range(0, len(parts), size)]


def rapid_reset(at):
    flooded(at, "rapid-reset", chunks(ask(2 * i + 1) + reset(2 * i + 1) for i in range(10_000)))
    few = at.origin.total.value
    REPORT.check("rapid-reset: few reach the endpoint", few <= 1000, f"{few} of 10,000")
    return ["http2_resets"]


def rapid_reset_half(at):
    def rounds():
        for turn in range(100):
            streams = [2 * (100 * turn + i) + 1 for i in range(100)]
            yield b"".join(map(ask, streams)) + b"".join(map(reset, streams))
    flooded(at, "rapid-reset-half", rounds())
    return ["http2_resets"]


def made_you_reset(at):
    ways = {
        "window of nothing": lambda s: update(s, 0),
        "window too wide": lambda s: update(s, 0x7fffffff),
        "PRIORITY of 4 bytes": lambda s: frame(PRIORITY, 0, s, bytes(4)),
        "PRIORITY on itself": lambda s: frame(PRIORITY, 0, s, struct.pack(">IB", s, 9)),
        "HEADERS after the end": lambda s: ask(s),
        "DATA after the end": lambda s: frame(DATA, END_STREAM, s, b"x"),
    }
    for name, mistake in ways.items():
        by = at.open()
        by.flood(chunks((ask(2 * i + 1) + mistake(2 * i + 1) for i in range(5000)), 10))
        by.read()
        # Those that h2 takes for errors of the connection end it at once.
        good = by.closed and len(by.resets) <= 1000 and by.away in (CALM, PROTOCOL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR)
        REPORT.check(f"made-you-reset: {name}", good, f"GOAWAY {by.away} after {len(by.resets)} of 5,000 resets")
    peak = at.origin.peak.value
    REPORT.check("made-you-reset: never more than the limit reach the endpoint", peak <= STREAMS, f"{peak} at once")
    return ["http2_faults"]


def continuation_flood(at):
    for name, piece in {"of 16 KiB": field(b"x", b"y" * 100) * 150, "empty": b"", "in Huffman's code": b"\x00\x01x\x9f" + b"\x07" * 31}.items():
        def parts(piece=piece):
            yield frame(HEADERS, END_STREAM, 1, block())
            for _ in range(10_000):
                yield frame(CONTINUATION, 0, 1, piece)
        flooded(at, f"continuation-flood {name}", parts())
    return ["http2_continuations"]


def hpack_bomb(at):
    kept = b"\x40\x01x\x7f" + b"\x81\x1e" + b"y" * 3968
    connection = at.open()
    connection.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(b"/small") + kept + b"\xbe" * 12_000))
    connection.read(enough=lambda c: 1 in c.answers)
    ended("hpack-bomb", connection)
    return ["head"]


def hpack_table_size(at):
    connection = at.open((1, 0xffffffff))
    for i in range(100):
        connection.send(ask(2 * i + 1, b"/small"))
    connection.read(enough=lambda c: len(c.answers) == 100)
    REPORT.equal("hpack-table-size: a table of 4 GiB is not kept", len(connection.answers), 100)
    connection.send(frame(HEADERS, END_STREAM | END_HEADERS, 201, b"\x3f\xe0\xff\xff\xff\x0f" + block(b"/small")))
    ended("hpack-table-size: an update over ours", connection.read(), [COMPRESSION_ERROR, PROTOCOL_ERROR])
    return ["bad_request"]


def settings_flood(at):
    flooded(at, "settings-flood", chunks(settings() for _ in range(10_000)))
    flooded(at, "settings-flood of entries", [settings(*[(0x99, 1)] * 2700)] * 100)
    return ["http2_settings"]


def ping_flood(at):
    flooded(at, "ping-flood", chunks((frame(PING, 0, 0, bytes(8)) for _ in range(100_000)), 1000))
    return ["http2_pings"]


def empty_frames(at):
    flooded(at, "empty DATA", [begin(1), *chunks(frame(DATA, 0, 1) for _ in range(10_000))])
    flooded(at, "padded DATA", [begin(1), *chunks(frame(DATA, PADDED, 1, b"\xffx" + bytes(255)) for _ in range(10_000))])
    flooded(at, "empty CONTINUATION", [frame(HEADERS, END_STREAM, 1, block()), *chunks(frame(CONTINUATION, 0, 1) for _ in range(10_000))])
    empty = at.open()
    empty.flood(chunks(frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1) for i in range(10_000)))
    ended("empty HEADERS", empty.read(), [CALM, PROTOCOL_ERROR])
    return ["http2_empty_frames", "http2_continuations"]


def data_dribble(at):
    many = [ask(2 * i + 1, b"/large") for i in range(STREAMS)]
    flooded(at, "data-dribble", [b"".join(many), *chunks(update(2 * (i % STREAMS) + 1, 1) for i in range(50_000))], (4, 0))
    still = at.open((4, 0))
    still.send(b"".join(many))
    still.read(enough=lambda c: len(c.resets) == STREAMS)
    REPORT.equal("data-dribble: windows that stay shut", set(still.resets.values()), {8})
    return ["http2_window_updates", "client_idle"]


def internal_data_buffering(at):
    connection = at.open((4, 0x7fffffff))
    connection.send(update(0, 0x7fff0000) + b"".join(ask(2 * i + 1, b"/large") for i in range(STREAMS)))
    stand.until("the endpoints to be asked", lambda: at.origin.open.value > 0)
    stand.until("the endpoints to be let go", lambda: at.origin.open.value == 0)
    timed_out = sum(r["end"] == "client_timeout" and r["target"] == "/large" for r in at.proxy.records())
    REPORT.check("internal-data-buffering: timed out", timed_out >= STREAMS, f"{timed_out} records")
    return ["client_idle"]


def resource_loop(at):
    flooded(at, "resource-loop", chunks((frame(PRIORITY, 0, 2 * i + 1, struct.pack(">IB", 2 * (i // 2) + 3, 9)) for i in range(100_000)), 1000))
    return ["http2_priorities"]


def reset_flood(at):
    flooded(at, "reset-flood", chunks(ask(2 * i + 1, b"/never", (b"connection", b"x")) for i in range(10_000)))
    return ["http2_faults"]


def zero_length_headers(at):
    connection = at.open()
    connection.flood(chunks((ask(2 * i + 1, b"/never", *[(b"", b"")] * 20) for i in range(10_000)), 10))
    # h2 takes the first for a head that cannot be unpacked.
    ended("zero-length-headers", connection.read(), [CALM, PROTOCOL_ERROR])
    return ["bad_request"]


def window_update_flood(at):
    flooded(at, "window-update-flood", chunks((update(0, 1) for _ in range(100_000)), 1000))
    return ["http2_window_updates"]


def goaway_then_more(at):
    away = frame(GOAWAY, 0, 0, bytes(8))
    for name, parts in {
        "streams": chunks(ask(2 * i + 3) + reset(2 * i + 3) for i in range(10_000)),
        "updates": chunks((update(0, 1) for _ in range(100_000)), 1000),
        "pings": chunks((frame(PING, 0, 0, bytes(8)) for _ in range(100_000)), 1000),
    }.items():
        connection = at.open()
        sent = connection.flood([ask(1) + away, *parts])
        connection.read()
        good = connection.closed and connection.away == CALM
        REPORT.check(f"goaway-then-more {name}", good, f"{sent} of {len(parts)}, GOAWAY {connection.away}")
    return ["http2_resets", "http2_window_updates", "http2_pings"]


def cut_off(name, connection, start, most=4.0):
    connection.read(most + 2)
    took = time.monotonic() - start
    REPORT.check(f"{name}: cut off", connection.closed and took < most, f"after {took:.1f} s")


def slow_preface(at):
    for name, first in {"nothing": b"", "half a preface": PREFACE[:10], "no SETTINGS": PREFACE, "half a frame": PREFACE + settings()[:5]}.items():
        start, silent = time.monotonic(), Connection.__new__(Connection)
        silent.socket = connect(at.port, "h2")
        silent.buffer, silent.away, silent.resets, silent.answers, silent.closed = b"", None, {}, {}, False
        silent.send(first)
        cut_off(f"slow-preface {name}", silent, start)
    return ["request_header"]


def slow_headers(at):
    start, connection = time.monotonic(), at.open()
    connection.flood([frame(HEADERS, END_STREAM, 1, block())])
    for _ in range(4):
        connection.read(0.4)
        connection.send(frame(CONTINUATION, 0, 1, b""))
    cut_off("slow-headers", connection, start)
    return ["request_header"]


def slow_body(at):
    connection = at.open()
    connection.send(b"".join(begin(2 * i + 1) for i in range(STREAMS)))
    connection.send(b"".join(frame(DATA, 0, 2 * i + 1, b"x") for i in range(STREAMS)))
    connection.read(6, enough=lambda c: len(c.resets) + len(c.answers) >= STREAMS)
    given_up = len(set(connection.resets) | set(connection.answers))
    REPORT.equal("slow-body: all are given up", given_up, STREAMS)
    return ["client_idle"]


def too_many_streams(at):
    connection = at.open()
    connection.flood(chunks(ask(2 * i + 1) for i in range(10_000)))
    connection.read()
    refused = sum(code == REFUSED_STREAM for code in connection.resets.values())
    peak = at.origin.peak.value
    REPORT.check("too-many-streams: never more than the limit reach the endpoint", peak <= STREAMS, f"{peak} at once, {refused} refused, GOAWAY {connection.away}")
    REPORT.check("too-many-streams: the others are refused", refused > 0 or connection.away is not None)
    return ["http2_streams"]


def h2c_upgrade(at):
    shapes = {
        "Upgrade": b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "Connection: Upgrade alone": b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "POST": b"POST /small HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 0\r\n\r\n",
    }
    for name, request in shapes.items():
        for tls in [True, False]:
            client = connect(at.port, "http/1.1") if tls else socket.create_connection(("127.0.0.1", at.clear), 10)
            client.settimeout(3)
            client.sendall(request)
            answer = b""
            try:
                while b"\r\n\r\n" not in answer and (part := client.recv(4096)):
                    answer += part
            except OSError:
                pass
            plain = answer.startswith(b"HTTP/1.1 200")
            REPORT.check(f"h2c-upgrade {name}, {'TLS' if tls else 'clear'}", plain, repr(answer[:30]))
            client.close()
    REPORT.equal("h2c-upgrade: the endpoint sees neither field", (at.origin.hop.value, at.other.hop.value), (0, 0))
    return []


def h2_upstream_attacks(at):
    for name in at.malicious:
        client = connect(at.port, "http/1.1")
        client.sendall(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        start, answer = time.monotonic(), b""
        try:
            answer = client.recv(65536)
        except OSError:
            pass
        # Once its head has gone on, an answer that is reset breaks off.
        good = answer.startswith(b"HTTP/1.1 502 ") or (name == "reset" and not answer.endswith(b"0\r\n\r\n"))
        REPORT.check(f"h2-upstream-attacks: {name}", good, f"{answer[:12]!r} after {time.monotonic() - start:.2f} s")
        client.close()
    return ["http2_frames"]


def main():
    at = Stand()
    attacks = {case["id"]: globals().get(case["id"].replace("-", "_")) for case in CASES}
    warm = at.open()
    warm.send(ask(1, b"/small"))
    warm.read(enough=lambda c: 1 in c.answers)
    for name, attack in attacks.items():
        if not REPORT.check(f"{name} is played", attack is not None):
            continue
        for value in [at.origin.total, at.origin.peak]:
            value.value = 0
        memory, start = at.proxy.memory(), time.monotonic()
        counts = {limit: at.hits(limit) for limit in LIMITS}
        at.watcher.start()
        limits = attack(at)
        stand.until("the endpoints to be let go", lambda: at.origin.open.value == 0)
        failed, worst, figures = at.watcher.figures()
        REPORT.check(f"{name}: the second client", not failed and worst < PATIENCE, f"{figures}, {failed} failed")
        grown = at.proxy.memory() - memory
        REPORT.check(f"{name}: memory", grown < MEMORY, f"{grown / 1048576:+.1f} MiB in {time.monotonic() - start:.1f} s")
        for limit in limits:
            now = at.hits(limit)
            REPORT.check(f"{name}: {limit} counted", now > counts[limit], f"{now - counts[limit]:.0f}")
    REPORT.check("it still runs", at.proxy.child.poll() is None)
    REPORT.end()


LIMITS = ["http2_resets", "http2_faults", "http2_continuations", "head", "bad_request", "http2_settings", "http2_pings",
          "http2_empty_frames", "http2_window_updates", "http2_priorities", "request_header", "client_idle", "http2_streams", "http2_frames"]

main()
