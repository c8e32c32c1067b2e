"""An origin that is known by name and writes down what reaches it before it answers, so that a kill hides nothing:
`counting_origin.py NAME ADDRESS FIRST_PORT PORTS RECORD [tcp]`.

Over HTTP `/b` is a sick application (503), `/wait` and `/once` take 50 ms, all else answers with the name at once; while it is told to be
slow (SIGUSR1, until SIGUSR2), `/health` takes 4 s. Over tcp a connection is greeted with the name and echoed."""
import asyncio
import os
import signal
import sys

SLOW = 4.0


class Http(asyncio.Protocol):
    """One connection; a head at a time, a body by its length."""

    slow = 0.0

    def __init__(self, name, record):
        self.name, self.record, self.buffer, self.transport = name, record, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:end].split(b"\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
            size = end + 4 + int(fields.get(b"content-length", b"0"))
            if len(self.buffer) < size:
                return
            self.buffer = self.buffer[size:]
            method, path, _ = lines[0].split(b" ", 2)
            os.write(self.record, method + b" " + path + b" " + fields.get(b"x-once", b"-") + b"\n")
            self.answer(path)

    def answer(self, path):
        status, wait = b"200 OK", 0.0
        if path == b"/b":
            status = b"503 Service Unavailable"
        elif path in (b"/wait", b"/once"):
            wait = 0.05
        elif path == b"/health":
            wait = Http.slow
        answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(self.name) + self.name
        if wait:
            asyncio.get_running_loop().call_later(wait, self.transport.write, answer)
        else:
            self.transport.write(answer)


class Tcp(asyncio.Protocol):
    """One session."""

    def __init__(self, name):
        self.name, self.transport = name, None

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.name + b"\n")

    def data_received(self, data):
        self.transport.write(data)


def become(slow):
    Http.slow = slow


async def main():
    name, address, first, ports, record = sys.argv[1:6]
    name, file = name.encode(), os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, become, SLOW)
    loop.add_signal_handler(signal.SIGUSR2, become, 0.0)
    make = (lambda: Tcp(name)) if sys.argv[6:] == ["tcp"] else (lambda: Http(name, file))
    for port in range(int(first), int(first) + int(ports)):
        await loop.create_server(make, address, port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
