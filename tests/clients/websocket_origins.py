"""Three WebSocket origins that give every message back, and close when they are told to: Python's websockets and Node's ws
behind an upgrade of HTTP/1, Python's wsproto behind an extended CONNECT of HTTP/2. `/refuse` they refuse."""
import asyncio
import http
import logging
import threading

import websockets
import websockets.asyncio.server
import wsproto.connection
import wsproto.events
import wsproto.extensions

import http2_peer
import stand

SUBPROTOCOL = "chat"


def told_to_close(message):
    """Code and reason, of `close CODE REASON`."""
    words = message.split(" ", 2) if isinstance(message, str) else []
    return (int(words[1]), words[2]) if words and words[0] == "close" else None


async def echo(socket):
    try:
        async for message in socket:
            if close := told_to_close(message):
                await socket.close(*close)
                return
            await socket.send(message)
    except websockets.ConnectionClosed:
        """Its client did what the cases are about."""


def refuse(connection, request):
    if request.path == "/refuse":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not you\n")
    return None


def choose(_, offered):
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def python_origin(context=None):
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    found, ready = [], threading.Event()

    async def serve():
        server = await websockets.asyncio.server.serve(
            echo, "127.0.0.1", 0, select_subprotocol=choose, process_request=refuse, max_size=None, max_queue=None,
            ping_interval=None, ssl=context, backlog=1024, close_timeout=5,
        )
        found.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.get_running_loop().create_future()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait(stand.DEADLINE)
    return found[0]


def node_origin(*certificate):
    port = stand.free_port()
    stand.Process(["node", stand.ROOT / "tests" / "node" / "websocket.js", "serve", str(port), *certificate])
    stand.until("Node", lambda: stand.accepts(port))
    return port


class Echo:
    """A WebSocket in a stream of HTTP/2."""

    def __init__(self, answering):
        self.answering = answering
        if answering.fields.get(":protocol") != "websocket":
            answering.head(200)
            answering.send(b"h2", end=True)
            return
        if answering.fields[":path"] == "/refuse":
            answering.head(403, [("content-length", "8")])
            answering.send(b"not you\n", end=True)
            return
        deflate = wsproto.extensions.PerMessageDeflate()
        offered = answering.fields.get("sec-websocket-extensions", "")
        fields, extensions = [], []
        if offered.startswith("permessage-deflate"):
            accepted = deflate.accept(offered)
            fields.append(("sec-websocket-extensions", "; ".join(filter(None, ["permessage-deflate", accepted]))))
            extensions.append(deflate)
        if SUBPROTOCOL in answering.fields.get("sec-websocket-protocol", ""):
            fields.append(("sec-websocket-protocol", SUBPROTOCOL))
        self.socket = wsproto.connection.Connection(wsproto.connection.ConnectionType.SERVER, extensions)
        self.parts, self.over = [], False
        answering.head(200, fields)

    def __call__(self, data):
        if not hasattr(self, "socket") or self.over:
            return
        if data is None:
            self.end()
            return
        self.socket.receive_data(data)
        for event in self.socket.events():
            self.take(event)
            if self.over:
                return

    def take(self, event):
        if isinstance(event, wsproto.events.Ping):
            self.say(event.response())
        elif isinstance(event, wsproto.events.CloseConnection):
            if self.socket.state is not wsproto.connection.ConnectionState.CLOSED:
                self.say(event.response())
            self.end()
        elif isinstance(event, wsproto.events.Message):
            self.parts.append(event.data)
            if not event.message_finished:
                return
            message = self.parts[0][:0].join(self.parts)
            self.parts.clear()
            if close := told_to_close(message):
                self.say(wsproto.events.CloseConnection(*close))
            else:
                self.say(type(event)(message))

    def say(self, event):
        self.answering.send(self.socket.send(event))

    def end(self):
        self.over = True
        self.answering.send(end=True)


def http2_origin(context=None):
    return http2_peer.origin(Echo, context=context)
