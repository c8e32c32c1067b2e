"""HTTP/2 by Python's h2 package: a client that has many requests and tunnels on one connection, and an origin. Both wait in
their own thread, with a deadline."""
import collections
import contextlib
import socket
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame
from h2.settings import SettingCodes

import stand

WINDOW = 1 << 20


def settings(client, more=None):
    """What a side says first; h2 sends what is changed later only later."""
    return h2.settings.Settings(client=client, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, **(more or {})})


class Gone(Exception):
    """The connection ended, or will take no more."""


class Stream:
    """One request, or one tunnel, and what has come of it."""

    def __init__(self, session, number):
        self.session, self.number = session, number
        self.status, self.fields, self.interim = None, {}, []
        self.data, self.trailers = bytearray(), {}
        self.ended, self.reset = False, None

    def send(self, data, end=False):
        """Sends as the window allows."""
        connection, at = self.session.connection, 0
        while at < len(data):
            room = min(connection.local_flow_control_window(self.number), connection.max_outbound_frame_size)
            if room <= 0:
                self.session.flush()
                self.session.pump()
                continue
            connection.send_data(self.number, data[at:at + room])
            at += room
        if end:
            connection.end_stream(self.number)
        self.session.flush()

    def finish(self, trailers):
        self.session.connection.send_headers(self.number, list(trailers.items()), end_stream=True)
        self.session.flush()

    def cancel(self):
        self.session.connection.reset_stream(self.number, h2.errors.ErrorCodes.CANCEL)
        self.session.flush()

    def until(self, holds):
        while not holds(self):
            if self.reset is not None:
                raise Gone(f"stream {self.number} was reset: {self.reset}")
            self.session.pump()
        return self

    def head(self):
        return self.until(lambda stream: stream.status is not None)

    def whole(self):
        return self.until(lambda stream: stream.ended)

    def take(self):
        """What has come, at least a byte; nothing is the end."""
        self.until(lambda stream: stream.data or stream.ended)
        data = bytes(self.data)
        self.data.clear()
        return data


class Session:
    """A client's connection."""

    def __init__(self, port, context=None, name="127.0.0.1"):
        raw = socket.create_connection(("127.0.0.1", port), stand.DEADLINE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw, server_hostname=name) if context else raw
        if context and self.socket.selected_alpn_protocol() != "h2":
            raise Gone("HTTP/2 was not chosen")
        self.scheme = "https" if context else "http"
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.connection.local_settings = settings(client=True)
        # To h2 a connection has ended with GOAWAY, though what was begun goes on (RFC 9113 section 6.8).
        self.connection._frame_dispatch_table[hyperframe.frame.GoAwayFrame] = self.leave
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(WINDOW * 16)
        self.streams, self.goaway, self.settled = {}, None, False
        self.flush()

    def flush(self):
        if data := self.connection.data_to_send():
            self.socket.sendall(data)

    def pump(self):
        """Waits for something to come, and takes it."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise Gone("the connection ended")
        for event in self.connection.receive_data(data):
            self.take(event)
        self.flush()

    def leave(self, frame):
        self.goaway = frame.last_stream_id
        return [], []

    def take(self, event):
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled = True
        stream = self.streams.get(getattr(event, "stream_id", None))
        if stream is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            stream.interim.append(dict(event.headers))
        elif isinstance(event, h2.events.ResponseReceived):
            stream.fields = dict(event.headers)
            stream.status = int(stream.fields[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream.data += event.data
            if event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = event.error_code

    def open(self, path, method="GET", authority="a.test", fields=(), end=True, protocol=None):
        if self.goaway is not None:
            raise Gone("the connection takes no more")
        number = self.connection.get_next_available_stream_id()
        head = [(":method", method), (":scheme", self.scheme), (":authority", authority), (":path", path)]
        if protocol:
            head.append((":protocol", protocol))
        self.connection.send_headers(number, head + list(fields), end_stream=end)
        self.streams[number] = stream = Stream(self, number)
        self.flush()
        return stream

    def tunnel(self, path, authority="a.test", fields=()):
        """Asks for a WebSocket (RFC 8441), once the other side has said that it knows what that is."""
        while not self.settled:
            self.pump()
        if not self.connection.remote_settings.enable_connect_protocol:
            raise Gone("no extended CONNECT")
        fields = [("sec-websocket-version", "13"), *fields]
        return self.open(path, "CONNECT", authority, fields, end=False, protocol="websocket").head()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()


class Answering:
    """An origin's side of one stream: bytes wait here until the window lets them go."""

    def __init__(self, served, number, fields):
        self.served, self.number, self.fields = served, number, fields
        self.waiting, self.end = collections.deque(), False

    def head(self, status, fields=(), end=False):
        self.served.connection.send_headers(self.number, [(":status", str(status)), *fields], end_stream=end)

    def send(self, data=b"", end=False):
        if data:
            self.waiting.append(data)
        self.end |= end
        self.push()

    def push(self):
        connection = self.served.connection
        while self.waiting:
            room = min(connection.local_flow_control_window(self.number), connection.max_outbound_frame_size)
            if room <= 0:
                return
            data = self.waiting.popleft()
            connection.send_data(self.number, data[:room])
            if data[room:]:
                self.waiting.appendleft(data[room:])
        if self.end:
            self.end = False
            connection.end_stream(self.number)


class Served:
    """An origin's connection; `serve` makes of every request's Answering what gets its data, and None at its end."""

    def __init__(self, stream, serve, tunnels):
        self.socket, self.serve = stream, serve
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.local_settings = settings(False, {SettingCodes.ENABLE_CONNECT_PROTOCOL: int(tunnels)})
        self.streams = {}

    def run(self):
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(WINDOW * 16)
        self.flush()
        while data := self.socket.recv(1 << 16):
            for event in self.connection.receive_data(data):
                self.take(event)
            self.flush()

    def flush(self):
        if data := self.connection.data_to_send():
            self.socket.sendall(data)

    def take(self, event):
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived):
            answering = Answering(self, number, dict(event.headers))
            self.streams[number] = (answering, self.serve(answering))
        elif isinstance(event, h2.events.DataReceived) and number in self.streams:
            # It has been taken, whatever became of its stream.
            self.connection.acknowledge_received_data(event.flow_controlled_length, number)
            self.streams[number][1](event.data)
        elif isinstance(event, h2.events.StreamEnded) and number in self.streams:
            self.streams[number][1](None)
        elif isinstance(event, h2.events.StreamReset):
            self.streams.pop(number, None)
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            for answering, _ in list(self.streams.values()):
                answering.push()


def origin(serve, tunnels=True, context=None):
    """An origin by prior knowledge, or under TLS; its port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def connection(raw):
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            stream = context.wrap_socket(raw, server_side=True) if context else raw
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Served(stream, serve, tunnels).run()
        raw.close()

    def accept():
        while True:
            raw, _ = listening.accept()
            threading.Thread(target=connection, args=(raw,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listening.getsockname()[1]
