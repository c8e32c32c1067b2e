"""Exchanges on a WebSocket, frame by frame, as the Autobahn suite has them: what a client sends, rightly or wrongly, and
what it may then see. What comes back is a verdict, to be compared with that of the same exchange by another way."""
import dataclasses
import hashlib
import os
import struct
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
DEFLATE = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True):
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    length, bit = len(payload), masked << 7
    if length < 126:
        head += bytes([bit | length])
    elif length < 1 << 16:
        head += struct.pack("!BH", bit | 126, length)
    else:
        head += struct.pack("!BQ", bit | 127, length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    pad = (mask * (length // 4 + 1))[:length]
    masked_payload = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + mask + masked_payload.to_bytes(length, "big")


def fragments(opcode, payload, size):
    parts = [payload[at:at + size] for at in range(0, len(payload), size)] or [b""]
    return [frame(opcode if at == 0 else CONTINUATION, part, at == len(parts) - 1) for at, part in enumerate(parts)]


def deflated(payload):
    packed = zlib.compressobj(wbits=-15)
    return (packed.compress(payload) + packed.flush(zlib.Z_SYNC_FLUSH))[:-4]


@dataclasses.dataclass
class Case:
    name: str
    frames: list
    # Messages and pongs that come back before the client closes; nothing where the other side is to close.
    back: int | None = 1
    # What the messages are, where they are to be as they were sent.
    echoes: list | None = None
    # Bytes that are written at once.
    chop: int = 0
    extension: str = ""


def close(code, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def right():
    """Whatever is allowed, with what must come back."""
    for opcode, name in [(TEXT, "text"), (BINARY, "binary")]:
        for size in [0, 1, 125, 126, 127, 128, 65535, 65536, (1 << 20) + 1]:
            payload = b"*" * size if opcode == TEXT else os.urandom(size)
            yield Case(f"{name} of {size}", [frame(opcode, payload)], echoes=[payload])
        payload = b"*" * 2000
        for chop in [1, 997]:
            yield Case(f"{name} in writes of {chop}", [frame(opcode, payload)], echoes=[payload], chop=chop)
        large = b"x" * (4 << 20)
        yield Case(f"{name} of 4 MiB", [frame(opcode, large)], echoes=[large])
        yield Case(f"{name} of 2 MiB in fragments of 4 KiB", fragments(opcode, large[:2 << 20], 4096), echoes=[large[:2 << 20]])
        many = [f"message {i}".encode() for i in range(500)]
        yield Case(f"500 of {name}", [frame(opcode, m) for m in many], 500, echoes=many)
    word = "Hällö-µ@ßöäüàá-UTF-8!!".encode()
    yield Case("text of UTF-8 in fragments of a byte", fragments(TEXT, word, 1), echoes=[word])
    yield Case("fragments, some empty", [frame(TEXT, b"", False), frame(0, b"mid", False), frame(0, b"")], echoes=[b"mid"])
    pinged = [frame(TEXT, b"one ", False), frame(PING, b"now"), frame(CONTINUATION, b"two")]
    yield Case("a ping between fragments", pinged, 2, echoes=[b"one two"])
    for size in [0, 5, 125]:
        yield Case(f"a ping of {size}", [frame(PING, b"\xfe" * size)])
    yield Case("ten pings, byte by byte", [frame(PING, b"%d" % i) for i in range(10)], 10, chop=1)
    yield Case("a pong that nobody asked for", [frame(PONG, b"so"), frame(TEXT, b"then")], echoes=[b"then"])
    for size in [0, 1, 300, 70000, 1 << 20]:
        payload = (os.urandom(64) * (size // 64 + 1))[:size]
        packed = frame(BINARY, deflated(payload), rsv=4)
        yield Case(f"compressed, {size}", [packed], echoes=[payload], extension=DEFLATE)
    half = deflated(b"compressed in two" * 100)
    two = [frame(TEXT, half[:9], False, 4), frame(CONTINUATION, half[9:])]
    yield Case("compressed, in fragments", two, echoes=[b"compressed in two" * 100], extension=DEFLATE)
    plain = [frame(TEXT, b"not compressed")]
    yield Case("not compressed where it might be", plain, echoes=[b"not compressed"], extension=DEFLATE)


def ends():
    """Ways to close, and to fail."""
    yield Case("close without a code", [frame(CLOSE)], None)
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]:
        yield Case(f"close {code}", [close(code, "weiß".encode())], None)
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535]:
        yield Case(f"close {code}, which is none", [close(code)], None)
    yield Case("close with a byte", [frame(CLOSE, b"\x03")], None)
    yield Case("close with a reason of 123", [close(1000, b"r" * 123)], None)
    yield Case("close with a reason of 124", [close(1000, b"r" * 124)], None)
    yield Case("close with a reason that is no text", [close(1000, b"\xce\xba\xff")], None)
    for rsv in [1, 2, 3, 4, 5, 6, 7]:
        yield Case(f"reserved bits {rsv}", [frame(TEXT, b"x", rsv=rsv)], None)
        yield Case(f"reserved bits {rsv} of a ping", [frame(PING, b"x", rsv=rsv)], None)
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]:
        yield Case(f"opcode {opcode}", [frame(opcode, b"x")], None)
    yield Case("a ping of 126", [frame(PING, b"x" * 126)], None)
    yield Case("a ping in fragments", [frame(PING, b"x", False)], None)
    yield Case("a continuation of nothing", [frame(CONTINUATION, b"x")], None)
    yield Case("a second text before the end of the first", [frame(TEXT, b"x", False), frame(TEXT, b"y")], None)
    yield Case("a text that is no text", [frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80")], None)
    split = [frame(TEXT, b"\xce\xba", False), frame(CONTINUATION, b"\xff\xfe")]
    yield Case("a text that is none in its second fragment", split, None)
    yield Case("a frame without a mask", [frame(TEXT, b"bare", masked=False)], None)
    yield Case("a compressed ping", [frame(PING, b"x", rsv=4)], None, extension=DEFLATE)
    yield Case("compressed without end", [frame(TEXT, b"\xff\xff\xff", rsv=4)], None, extension=DEFLATE)
    yield Case("told to close", [frame(TEXT, b"close 4321 because of you")], None)


def all_cases():
    return [*right(), *ends()]


class Frames:
    """What comes back, parsed."""

    def __init__(self):
        self.bytes = bytearray()

    def take(self, data):
        self.bytes += data
        while (parsed := self.next()) is not None:
            yield parsed

    def next(self):
        """First byte and payload of the next frame, once it is whole."""
        if len(self.bytes) < 2:
            return None
        length, at = self.bytes[1] & 127, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(self.bytes) < at + size:
                return None
            length, at = int.from_bytes(self.bytes[at:at + size], "big"), at + size
        if len(self.bytes) < at + length:
            return None
        first, payload = self.bytes[0], bytes(self.bytes[at:at + length])
        del self.bytes[:at + length]
        return first, payload


def play(case, way):
    """Plays a case on a way (send, take, close): its verdict."""
    frames, back, went, came = Frames(), [], 0, 0
    closed = any(sent[0] & 15 == CLOSE for sent in case.frames)

    def send(data, at_once):
        for at in range(0, len(data), at_once):
            way.send(data[at:at + at_once])
        return len(data)

    out = b"".join(case.frames)
    went += send(out, case.chop or len(out))
    while data := way.take():
        came += len(data)
        back += frames.take(data)
        ended = back and back[-1][0] & 15 == CLOSE
        if not closed and (ended or (case.back is not None and len(back) >= case.back)):
            closed = True
            answer = frame(CLOSE, back[-1][1][:2]) if ended else close(1000)
            went += send(answer, len(answer))
    way.close()
    return Verdict(case, back, bytes(frames.bytes), went, came)


class Verdict:
    def __init__(self, case, back, rest, went, came):
        self.went, self.came = went, came
        whole = [(f"{first:02x}", len(payload), hashlib.sha1(payload).hexdigest()[:10]) for first, payload in back]
        # Pongs are made beside messages: which comes first is nobody's to say.
        self.pongs = [one for one in whole if one[0] == "8a"]
        self.frames = [one for one in whole if one[0] != "8a"]
        self.rest = rest
        self.messages = [zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff") if first & 64 else payload
                         for first, payload in back if first & 15 in (TEXT, BINARY)]
        self.code = next((int.from_bytes(p[:2], "big") for first, p in back if first & 15 == CLOSE), None)

    def __eq__(self, other):
        return (self.frames, self.pongs, self.rest) == (other.frames, other.pongs, other.rest)

    def __repr__(self):
        return f"{self.frames[-3:]} {len(self.frames)} {self.pongs[-1:]} rest {self.rest[:20]!r}"
