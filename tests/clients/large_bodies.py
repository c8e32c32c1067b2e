"""A body of 1 GiB each way, in both framings, arrives with its checksum while the proxy's memory stays flat."""
import hashlib
import os
import socket
import threading
import time

import stand

SIZE = 1 << 30
BLOCK = os.urandom(1 << 20)
FLAT = 16 << 20  # what memory may grow by


def serve(connection):
    """One connection; its end by the other side is no news."""
    try:
        converse(connection)
    except ConnectionError:
        pass


def converse(connection):
    """Takes any body, tells its hash; GET sends a body; both as the path says."""
    stream = connection.makefile("rwb", buffering=1 << 20)
    while line := stream.readline():
        method, path = line.decode().split(" ")[:2]
        fields = {}
        while (line := stream.readline().strip()):
            name, value = line.decode("latin-1").split(":", 1)
            fields[name.lower()] = value.strip()
        if method == "GET":
            send(stream, path == "/chunks")
        else:
            text = receive(stream, fields).encode()
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        stream.flush()


def send(stream, chunks):
    framing = b"Transfer-Encoding: chunked" if chunks else b"Content-Length: %d" % SIZE
    stream.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
    write_body(stream.write, chunks)


def write_body(write, chunks):
    for _ in range(SIZE // len(BLOCK)):
        write(b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK) if chunks else BLOCK)
    if chunks:
        write(b"0\r\n\r\n")


def receive(stream, fields):
    digest = hashlib.sha1(usedforsecurity=False)
    if fields.get("transfer-encoding") != "chunked":
        take(stream, int(fields["content-length"]), digest)
        return digest.hexdigest()
    while size := int(stream.readline().split(b";")[0], 16):
        take(stream, size, digest)
        stream.readline()
    stream.readline()
    return digest.hexdigest()


def take(stream, size, digest):
    while size:
        part = stream.read1(min(size, 1 << 20))
        if not part:
            raise EOFError(f"{size} bytes are missing")
        digest.update(part)
        size -= len(part)


def origin():
    listener = socket.create_server(("127.0.0.1", 0))

    def loop():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    return listener.getsockname()[1]


def exchange(port, method, chunks):
    """The hash that the receiving end saw."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    path = "/chunks" if chunks else "/length"
    framing = "Transfer-Encoding: chunked\r\n" if chunks else f"Content-Length: {SIZE}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\n" + (framing if method == "POST" else "") + "\r\n"
    connection.sendall(head.encode())
    if method == "POST":
        write_body(connection.sendall, chunks)
    stream = connection.makefile("rb", buffering=1 << 20)
    stream.readline()
    fields = {}
    while line := stream.readline().strip():
        name, value = line.decode().split(":", 1)
        fields[name.lower()] = value.strip()
    if method == "POST":
        return stream.read(int(fields["content-length"])).decode()
    return receive(stream, fields)


def main():
    report = stand.Report("large bodies")
    digest = hashlib.sha1(usedforsecurity=False)
    for _ in range(SIZE // len(BLOCK)):
        digest.update(BLOCK)
    proxy = stand.Proxy([origin()], access="off")
    base = proxy.memory()
    most, done = [base], threading.Event()

    def watch():
        while not done.wait(0.05):
            most[0] = max(most[0], proxy.memory())

    threading.Thread(target=watch, daemon=True).start()
    for method in ("GET", "POST"):
        for chunks in (False, True):
            start = time.monotonic()
            got = exchange(proxy.port, method, chunks)
            name = f"1 GiB by {method}, {'chunked' if chunks else 'of known length'}"
            report.check(name, got == digest.hexdigest(), f"{time.monotonic() - start:.1f} s")
    done.set()
    grown = (most[0] - base) >> 10
    report.check("memory is flat", most[0] - base <= FLAT, f"grew by {grown} KiB")
    report.end()


if __name__ == "__main__":
    main()
