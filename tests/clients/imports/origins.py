"""Origins at the addresses that a configuration names: each says who it is, records what reaches it, and can fail.

One port speaks HTTP, with TLS and behind a PROXY header where a client begins with these, and the few words of Redis,
PostgreSQL and IMAP that health checks ask for."""
import socket
import ssl
import struct
import threading

import recorder

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


class Origin:
    """One address. `health` gives the status of a path without X-Case, `seen` is told what arrives."""

    def __init__(self, address, tls, health, seen):
        self.address, self.tls, self.health, self.seen = address, tls, health, seen
        self.connections, self.lock, self.listener = set(), threading.Lock(), None
        self.start()

    def start(self):
        host, port = self.address.rsplit(":", 1)
        self.listener = socket.create_server((host, int(port)), backlog=1024)
        threading.Thread(target=self.loop, args=(self.listener,), daemon=True).start()

    def fail(self):
        """The machine is gone: connections end, new ones are refused."""
        # A thread in accept() keeps the port: shutdown wakes it.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def loop(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with self.lock:
            self.connections.add(connection)
        wrapped = connection
        try:
            connection.settimeout(60)
            first = connection.recv(1, socket.MSG_PEEK)
            if first in (b"\r", b"P"):
                self.skip_proxy_header(connection)
                first = connection.recv(1, socket.MSG_PEEK)
            if first == b"\x16":
                wrapped = self.tls.wrap_socket(connection, server_side=True)
            self.speak(wrapped)
        except (OSError, EOFError, ValueError, recorder.Broken, ssl.SSLError):
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)
            wrapped.close()

    @staticmethod
    def skip_proxy_header(connection):
        start = connection.recv(16, socket.MSG_PEEK)
        if start.startswith(SIGNATURE):
            length = struct.unpack("!H", start[14:16])[0]
            connection.recv(16 + length, socket.MSG_WAITALL)
        elif start.startswith(b"PROXY "):
            while connection.recv(1) != b"\n":
                pass

    def speak(self, connection):
        first = connection.recv(8, socket.MSG_PEEK) if not isinstance(connection, ssl.SSLSocket) else b""
        if len(first) == 8 and first[4:] == b"\x00\x03\x00\x00":
            connection.recv(1024)
            connection.sendall(b"R\x00\x00\x00\x0c\x00\x00\x00\x05salt")
            return
        if first.split(b" ")[0].split(b"\r")[0] in (b"PING", b"AUTH", b"info", b"INFO"):
            return self.redis(connection)
        reader = recorder.Reader(connection)
        while True:
            self.request(reader, connection)

    def redis(self, connection):
        reader = recorder.Reader(connection)
        while True:
            word = reader.until(b"\r\n").split(b" ")[0].upper()
            role = self.health("role")
            info = f"# Replication\r\nrole:{'master' if role == 200 else 'slave'}\r\n".encode()
            connection.sendall({
                b"PING": b"+PONG\r\n", b"INFO": b"$%d\r\n%s\r\n" % (len(info), info),
            }.get(word, b"+OK\r\n"))

    def request(self, reader, connection):
        first, *lines = reader.until(b"\r\n\r\n").split(b"\r\n")
        method, target, _ = first.decode("latin-1").split(" ")
        fields = recorder.parse_fields(lines)
        body, _ = recorder.read_body(reader, fields)
        named = dict(fields)
        case, status = named.get("x-case"), int(named.get("x-answer", "200"))
        if case is None:
            status = self.health(target)
        else:
            self.seen(case, self.address, method, target, fields, body)
        text = b"" if method == "HEAD" else f"{case} {method}".encode()
        more = f"Set-Cookie: {named['x-cookie']}={self.address.replace(':', '-')}; path=/\r\n" if "x-cookie" in named else ""
        connection.sendall(
            f"HTTP/1.1 {status} Told\r\nServer: origin\r\nX-Powered-By: a suite\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(text) if method != 'HEAD' else 4}\r\n{more}\r\n".encode() + text
        )


class Origins:
    """All of them, by address. `copies` are those whose requests are copies: they tell nothing of where a request went."""

    def __init__(self, addresses, tls, health, copies):
        self.requests, self.lock = {}, threading.Lock()
        self.copies = {address: set() for address in copies}
        self.all = {
            address: Origin(address, tls, lambda path, address=address: health(address, path), self.record)
            for address in addresses
        }

    def record(self, case, address, method, target, fields, body):
        with self.lock:
            if address in self.copies:
                self.copies[address].add(f"{case} {method} {target}")
                return
            self.requests.setdefault(case, []).append((address, method, target, fields, body))

    def take(self, case):
        with self.lock:
            return self.requests.pop(case, [])

    def take_copies(self):
        """Of each address that gets copies, the requests that it got so far."""
        with self.lock:
            taken, self.copies = self.copies, {address: set() for address in self.copies}
        return taken

    def on(self, hosts):
        return [origin for origin in self.all.values() if origin.address.rsplit(":", 1)[0] in hosts]
