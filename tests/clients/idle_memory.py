"""8,000 idle keep-alive connections, after a burst on all of them, hold at most 1 KiB of user-space memory each."""
import resource
import selectors
import socket
import time

import recorder
import stand

COUNT = 8000
LIMIT = 1024
# All requests of a burst are in the proxy at once: some on the origin, the others in the queue.
TEXT = """
[listener.web.timeouts]
keep_alive = "10m"
[pool.main.limits]
max_requests = 500
queue = 8000
queue_timeout = "30s"
"""
REQUEST = b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n"


def burst(connections):
    """A request on every connection before any answer is read; how many are answered with 200."""
    for connection in connections:
        connection.send(REQUEST)
    waiting = selectors.DefaultSelector()
    for connection in connections:
        waiting.register(connection, selectors.EVENT_READ)
    answered, end = 0, time.monotonic() + 60
    while waiting.get_map() and time.monotonic() < end:
        for key, _ in waiting.select(1):
            if key.fileobj.recv(65536).startswith(b"HTTP/1.1 200"):
                answered += 1
            waiting.unregister(key.fileobj)
    waiting.close()
    return answered


def main():
    report = stand.Report("idle memory")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    origin = recorder.Recorder()
    proxy = stand.Proxy([origin.port], access="off", text=TEXT)
    # One connection first, so that what is made once is not counted.
    first = [socket.create_connection(("127.0.0.1", proxy.port))]
    burst(first)
    time.sleep(1)
    before = proxy.memory()
    connections = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(COUNT)]
    for round_number in (1, 2):
        report.equal(f"answers in burst {round_number}", burst(connections), COUNT)
    each = COUNT * LIMIT
    deadline = time.monotonic() + 45
    while (grown := proxy.memory() - before) > each and time.monotonic() < deadline:
        time.sleep(0.5)
    report.check("memory of an idle connection", grown <= each, f"{grown / COUNT:.0f} bytes, {grown >> 10} KiB in all")
    report.equal("answers afterwards", burst(connections), COUNT)
    report.end()


if __name__ == "__main__":
    main()
