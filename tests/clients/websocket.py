"""WebSocket through every pair of protocols, HTTP/1 or 2 on either side, in the clear and under TLS. Frame by frame what
comes back is the same as without the proxy; then the clients that people use: Python's websockets and wsproto, Node's ws."""
import base64
import concurrent.futures
import contextlib
import hashlib
import os
import socket
import subprocess
import threading
import time

import h2.exceptions
import websockets.exceptions
import websockets.sync.client
import wsproto.connection
import wsproto.events
import wsproto.extensions

import certificates
import http2_peer
import stand
import websocket_cases as cases
import websocket_origins as origins

REPORT = stand.Report("websocket")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """No WebSocket came of it."""


class Upgrade:
    """A connection of HTTP/1 that was upgraded (RFC 6455)."""

    def __init__(self, port, path, host="a.test", extension="", context=None):
        raw = socket.create_connection(("127.0.0.1", port), stand.DEADLINE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw, server_hostname="127.0.0.1") if context else raw
        key = base64.b64encode(os.urandom(16))
        offer = f"Sec-WebSocket-Extensions: {extension}\r\n" if extension else ""
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key.decode()}\r\n{offer}\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            got = self.socket.recv(1 << 16)
            if not got:
                raise Refused(head)
            head += got
        head, _, self.rest = head.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if self.status != 101:
            self.close()
            raise Refused(self.status, self.rest)
        proof = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        if self.fields.get("sec-websocket-accept") != proof:
            raise Refused("not the proof of this key")

    def send(self, data):
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def take(self):
        if self.rest:
            rest, self.rest = self.rest, b""
            return rest
        try:
            return self.socket.recv(1 << 16)
        except ConnectionError:
            return b""

    def close(self):
        self.socket.close()


class Tunnel:
    """A stream of HTTP/2 (RFC 8441), by itself on a connection unless one is given."""

    def __init__(self, port, path, host="a.test", extension="", context=None, session=None):
        self.session = session or http2_peer.Session(port, context)
        self.alone = session is None
        fields = [("sec-websocket-extensions", extension)] if extension else []
        self.stream = self.session.tunnel(path, host, fields)
        self.status, self.fields = self.stream.status, self.stream.fields
        if self.status != 200:
            body = bytes(self.stream.whole().data)
            self.close()
            raise Refused(self.status, body)

    def send(self, data):
        # Where the other side is done, h2 does not let us go on.
        with contextlib.suppress(http2_peer.Gone, h2.exceptions.ProtocolError):
            self.stream.send(data)

    def take(self):
        try:
            return self.stream.take()
        except http2_peer.Gone:
            return b""

    def close(self):
        if self.alone:
            self.session.close()


class Stage:
    """Three origins, and the proxy before them: by the host the origin is chosen, by the port TLS or none."""

    def __init__(self):
        self.files = certificates.Files()
        self.origins = {"python.test": origins.python_origin(), "node.test": origins.node_origin(), "h2.test": origins.http2_origin()}
        self.secure = {"tls1.test": origins.python_origin(self.files.server("http/1.1")),
                       "tls2.test": origins.http2_origin(self.files.server("h2")),
                       "either.test": origins.node_origin(self.files / "server.crt", self.files / "server.key")}
        self.tls_port = stand.free_port()
        text = f'[listener.tls]\nbind = ["127.0.0.1:{self.tls_port}"]\n{self.files.listener()}'
        for host, port in {**self.origins, **self.secure}.items():
            name = host.split(".")[0]
            text += f'[[route]]\nhost = "{host}"\npool = "{name}"\n[pool.{name}]\nendpoints = ["127.0.0.1:{port}"]\n'
            text += 'protocol = "http2"\n' if name.endswith("2") and host in self.origins else ""
            text += self.files.pool() + 'protocol = "auto"\n' if host in self.secure else ""
        self.proxy = stand.Proxy([self.origins["python.test"]], listener="h2c = true\n", text=text)
        self.port = self.proxy.port

    def ways(self):
        """Name, host and how a client comes there, of everything that goes through the proxy."""
        for host in self.origins:
            yield f"h1 to {host}", host, lambda path, ext, host=host: Upgrade(self.port, path, host, ext)
            yield f"h2 to {host}", host, lambda path, ext, host=host: Tunnel(self.port, path, host, ext)
        for host in self.secure:
            h1, h2 = self.files.client("http/1.1"), self.files.client("h2")
            yield f"h1 under TLS to {host}", host, lambda path, ext, host=host: Upgrade(self.tls_port, path, host, ext, h1)
            yield f"h2 under TLS to {host}", host, lambda path, ext, host=host: Tunnel(self.tls_port, path, host, ext, h2)

    def direct(self, host, extension):
        """Without the proxy."""
        if host in self.origins:
            way = Tunnel if host == "h2.test" else Upgrade
            return way(self.origins[host], "/", host, extension)
        way, protocol = (Tunnel, "h2") if host == "tls2.test" else (Upgrade, "http/1.1")
        return way(self.secure[host], "/", host, extension, self.files.client(protocol))


def verdicts(stage):
    """Every case by every way."""
    every = cases.all_cases()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        def play_all(open_way):
            return list(pool.map(lambda at: cases.play(every[at], open_way(at)), range(len(every))))

        alone = {host: play_all(lambda at, host=host: stage.direct(host, every[at].extension))
                 for host in [*stage.origins, *stage.secure]}
        through = {}
        for way, host, enter in stage.ways():
            tag = way.replace(" ", "-")
            through[way] = (host, play_all(lambda at, enter=enter, tag=tag: enter(f"/{tag}/{at}", every[at].extension)))
    for host, own in alone.items():
        wrong = [case.name for case, verdict in zip(every, own) if case.echoes is not None and verdict.messages != case.echoes]
        REPORT.equal(f"{host} without the proxy gives {len(every)} cases back", wrong, [])
    for way, (host, verdicts_there) in through.items():
        other = [(case.name, got, want) for case, got, want in zip(every, verdicts_there, alone[host]) if got != want]
        REPORT.check(f"{way}: {len(every)} cases as without the proxy", not other, "; ".join(map(str, other[:3])))
    logged(stage, every, through)


def logged(stage, every, through):
    """The log has the bytes of every tunnel."""
    def records():
        found = {record["target"]: record for record in stage.proxy.records() if record["target"].count("/") == 2}
        return found if len(found) == len(every) * len(through) else None

    found = stand.until("a record of every tunnel", records)
    for way, (_, verdicts_there) in through.items():
        tag, wrong = way.replace(" ", "-"), []
        for at, verdict in enumerate(verdicts_there):
            record = found[f"/{tag}/{at}"]
            counted = (record["bytes_in"], record["bytes_out"])
            # Of the others it is not certain whether the origin still wanted what was sent last.
            if every[at].echoes is not None and counted != (verdict.went, verdict.came):
                wrong.append((every[at].name, counted, (verdict.went, verdict.came)))
        REPORT.check(f"{way}: the log counts the bytes", not wrong, "; ".join(map(str, wrong[:3])))


def refusals(stage):
    for way, host, enter in stage.ways():
        try:
            enter("/refuse", "")
            got = "granted"
        except Refused as refused:
            got = refused.args
        REPORT.equal(f"{way}: a refusal comes through", got, (403, b"not you\n"))
    plain = http2_peer.origin(origins.Echo, tunnels=False)
    proxy = stand.Proxy([plain], listener="h2c = true\n", pool='protocol = "http2"\n')
    for name, way in [("h1", Upgrade), ("h2", Tunnel)]:
        try:
            way(proxy.port, "/")
            got = "granted"
        except Refused as refused:
            got = refused.args[0]
        REPORT.equal(f"{name} to an h2 origin without extended CONNECT", got, 502)
    proxy.stop()


def python_client(stage):
    """Python's websockets, which compresses by default."""
    text, binary = "ü" * 700_000, os.urandom((1 << 20) + 3)
    for host in stage.origins:
        for scheme, port, context in [("ws", stage.port, None), ("wss", stage.tls_port, stage.files.client("http/1.1"))]:
            raw = socket.create_connection(("127.0.0.1", port), stand.DEADLINE)
            more = {"ssl": context, "server_hostname": certificates.NAME} if context else {}
            with websockets.sync.client.connect(f"{scheme}://{host}:{port}/", sock=raw, subprotocols=["chat"], max_size=None,
                                                proxy=None, ping_interval=None, **more) as client:
                got = []
                for message in [text, binary, "", b"", "a"]:
                    client.send(message)
                    got.append(client.recv(timeout=stand.DEADLINE) == message)
                client.send(["in ", "three ", "parts"])
                got.append(client.recv(timeout=stand.DEADLINE) == "in three parts")
                got.append(client.ping("here").wait(stand.DEADLINE))
                got.append((client.subprotocol, [e.name for e in client.protocol.extensions]) == ("chat", ["permessage-deflate"]))
                client.send("close 4002 as told")
                with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                    client.recv(timeout=stand.DEADLINE)
                got.append((client.close_code, client.close_reason) == (4002, "as told"))
            REPORT.equal(f"websockets by {scheme} to {host}", got, [True] * 9)


def wsproto_client(stage):
    """wsproto, with what it has of compression, on every way."""
    for way, _, enter in stage.ways():
        deflate = wsproto.extensions.PerMessageDeflate()
        there = enter("/wsproto", f"permessage-deflate; {deflate.offer()}")
        deflate.finalize(there.fields["sec-websocket-extensions"])
        client = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT, [deflate])
        there.send(client.send(wsproto.events.Ping(b"hello")))
        got, parts = [], []
        messages = ["text " * 1000, "", os.urandom(200_000), b"x" * (1 << 20), "last"]
        waiting = iter(messages)
        over = False
        while not over and (data := there.take()):
            client.receive_data(data)
            for event in client.events():
                if isinstance(event, wsproto.events.CloseConnection):
                    got.append(event.code)
                    over = True
                    continue
                if isinstance(event, wsproto.events.Message):
                    parts.append(event.data)
                    if not event.message_finished:
                        continue
                    got.append(parts[0][:0].join(parts))
                    parts = []
                # A pong, or a message that has come back: the next.
                message = next(waiting, None)
                kind = wsproto.events.TextMessage if isinstance(message, str) else wsproto.events.BytesMessage
                there.send(client.send(wsproto.events.CloseConnection(1000) if message is None else kind(message)))
        there.close()
        REPORT.check(f"{way}: wsproto, compressed", got == [*messages, 1000], f"{[len(str(g)) for g in got]}")


def node_client(stage):
    for scheme, port in [("ws", stage.port), ("wss", stage.tls_port)]:
        for host in stage.origins:
            environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(stage.files / "ca.pem")}
            command = ["node", stand.ROOT / "tests" / "node" / "websocket.js", "ask", f"{scheme}://127.0.0.1:{port}/", host]
            done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, timeout=60, check=False)
            failed = [line for line in done.stdout.decode().splitlines() if line.startswith("FAIL")]
            lines = len(done.stdout.splitlines())
            REPORT.check(f"Node's ws by {scheme} to {host}, {lines} checks", done.returncode == 0 and lines and not failed,
                         "; ".join(failed) + done.stderr.decode())


def many_on_one(stage):
    """Tunnels and requests share a client's connection, and an origin's."""
    for host in stage.origins:
        session = http2_peer.Session(stage.port)
        tunnels = [Tunnel(stage.port, "/", host, session=session) for _ in range(50)]
        for number, tunnel in enumerate(tunnels):
            tunnel.send(cases.frame(cases.TEXT, b"%d " % number * 5000))
        plain = [session.open("/", authority="h2.test") for _ in range(20)]
        right = 0
        for number, tunnel in enumerate(tunnels):
            frames, got = cases.Frames(), []
            while not got:
                got += frames.take(tunnel.take())
            right += got[0][1] == b"%d " % number * 5000
        asked = [(stream.whole().status, bytes(stream.data)) for stream in plain]
        REPORT.equal(f"50 tunnels and 20 requests on one connection to {host}", (right, asked), (50, [(200, b"h2")] * 20))
        session.close()


def quiet():
    """A tunnel may be quiet for longer than a connection, a body or an answer, and no longer than its own time."""
    for host, start, pool in [("h1", origins.python_origin, ""), ("h2", origins.http2_origin, 'protocol = "http2"\n')]:
        times = {"short": "1s", "long": "1h"}
        port, text = start(), ""
        for name, tunnel in times.items():
            text += f'[[route]]\nhost = "{name}.test"\npool = "{name}"\n[pool.{name}]\nendpoints = ["127.0.0.1:{port}"]\n{pool}'
            text += f'timeouts = {{ tunnel = "{tunnel}", idle = "400ms", response_header = "400ms", keep_alive = "400ms" }}\n'
        listener = 'h2c = true\ntimeouts = { keep_alive = "400ms", client_idle = "400ms", request_header = "400ms" }\n'
        proxy = stand.Proxy([port], listener=listener, text=text)
        jobs = [(f"{name} to {host}", way) for name, way in [("h1", Upgrade), ("h2", Tunnel)]]
        threads = [threading.Thread(target=job, args=(proxy.port, name, way))
                   for name, way in jobs for job in (quiet_ends, pings_keep, quiet_is_kept)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = stand.until("the records", lambda: [r for r in proxy.records() if r["end"] == "idle_timeout"])
        REPORT.equal(f"to {host}: the log says that they were idle", [r["target"] for r in ended], ["/quiet"] * 2)
        proxy.stop()


def quiet_ends(port, name, way):
    tunnel, since = way(port, "/quiet", "short.test"), time.monotonic()
    ended = tunnel.take()
    took = time.monotonic() - since
    REPORT.check(f"{name}: a quiet tunnel ends after its time", ended == b"" and 0.9 < took < 3, f"{took:.2f} s")


def pings_keep(port, name, way):
    tunnel, pongs = way(port, "/pings", "short.test"), []
    for number in range(8):
        tunnel.send(cases.frame(cases.PING, b"%d" % number))
        pongs += cases.Frames().take(tunnel.take())
        time.sleep(0.3)
    REPORT.equal(f"{name}: pings keep it", pongs, [(0x8a, b"%d" % number) for number in range(8)])
    tunnel.close()


def quiet_is_kept(port, name, way):
    tunnel = way(port, "/kept", "long.test")
    time.sleep(2)
    tunnel.send(cases.frame(cases.TEXT, b"still here"))
    REPORT.equal(f"{name}: it may be quiet for long", list(cases.Frames().take(tunnel.take())), [(0x81, b"still here")])
    tunnel.close()


def main():
    stage = Stage()
    verdicts(stage)
    refusals(stage)
    wsproto_client(stage)
    python_client(stage)
    node_client(stage)
    many_on_one(stage)
    quiet()
    REPORT.end()


if __name__ == "__main__":
    main()
