"""Load that comes when it comes: requests start by the clock, whether those before them are answered or not, so that a
proxy that stalls is asked all the same and its stall is seen."""
import asyncio
import collections

Result = collections.namedtuple("Result", "sent kind status body took")

TICK = 0.005
OPEN_MAX = 2000


class Wire(asyncio.Protocol):
    """A keep-alive connection with at most one request on its way."""

    def __init__(self, load):
        self.load, self.transport, self.buffer, self.asked = load, None, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, sent, kind, request):
        self.asked = (sent, kind)
        self.transport.write(request)

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        place = head.find(b"content-length: ")
        length = int(head[place + 16:].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4:end + 4 + length], b""
        self.finish(int(head[9:12]), body.decode(errors="replace"))
        if b"connection: close" in head:
            self.transport.close()
        else:
            self.load.idle.append(self)

    def connection_lost(self, _):
        if self in self.load.idle:
            self.load.idle.remove(self)
        self.finish("lost", "")

    def finish(self, status, body):
        if self.asked:
            self.load.note(*self.asked, status, body)
            self.asked = None


class Load:
    """`rate` requests a second; `make(number)` gives a kind and the bytes of each."""

    def __init__(self, port, rate, make):
        self.port, self.rate, self.make = port, rate, make
        self.idle, self.results, self.started, self.due, self.behind = [], [], 0, 0, 0.0
        self.tasks, self.begun, self.over = set(), 0.0, False

    def now(self):
        return asyncio.get_running_loop().time()

    def note(self, sent, kind, status, body):
        self.results.append(Result(sent - self.begun, kind, status, body, self.now() - sent))

    async def open(self, sent, kind, request):
        try:
            _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(self), "127.0.0.1", self.port)
        except OSError:
            self.note(sent, kind, "refused", "")
            return
        wire.ask(sent, kind, request)

    def start(self, sent):
        kind, request = self.make(self.started)
        self.started += 1
        if self.idle:
            self.idle.pop().ask(sent, kind, request)
        elif self.started - len(self.results) > OPEN_MAX:
            self.note(sent, kind, "not asked: too many wait", "")
        else:
            task = asyncio.create_task(self.open(sent, kind, request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def run(self, seconds=3600.0):
        """Until the time is over or `over` is set; then waits for what is on its way."""
        self.begun = self.now()
        while not self.over and (elapsed := self.now() - self.begun) < seconds:
            due = int(elapsed * self.rate)
            self.behind = max(self.behind, (due - self.started) / self.rate)
            self.due = due
            # After a stall of our own at most twice the rate: what was missed is no burst that anybody asked for.
            for _ in range(min(due - self.started, int(2 * self.rate * TICK) + 1)):
                self.start(self.now())
            await asyncio.sleep(TICK)
        end = self.now() + 15
        while len(self.results) < self.started and self.now() < end:
            await asyncio.sleep(0.05)
        missing = self.started - len(self.results)
        for wire in self.idle[:]:
            wire.transport.close()
        for _ in range(missing):
            self.note(self.now(), "unknown", "silent", "")
        return self.results

    def elapsed(self):
        return self.now() - self.begun


def get(path):
    return b"GET " + path.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def post(once):
    return b"POST /once HTTP/1.1\r\nHost: a\r\nX-Once: " + once.encode() + b"\r\nContent-Length: 2\r\n\r\nhi"


def bad(results, kind=None):
    """How many were not answered with 200, by what they got."""
    return dict(collections.Counter(r.status for r in results if r.status != 200 and kind in (None, r.kind)))
