"""Valid HTTP/1 requests from a seed: methods, targets, fields, bodies, chunkings, connection options, pipelines."""
import random

METHODS = ["GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]
ANSWERS = ["length", "length", "chunks", "empty", "none", "unchanged", "cookies", "large"]
TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
VALUE = "".join(map(chr, range(0x21, 0x7F))) + "éü\xa0"


class Case:
    """One connection's worth: the bytes in segments, and how many answers must come."""

    def __init__(self, number, requests, segments, closes):
        self.number, self.requests, self.segments, self.closes = number, requests, segments, closes

    @property
    def raw(self):
        return b"".join(self.segments)


def word(rng, letters, low, high):
    return "".join(rng.choice(letters) for _ in range(rng.randint(low, high)))


def chunks(rng, body):
    out = b""
    while body:
        size = rng.randint(1, max(1, min(len(body), rng.choice([1, 3, 100, 5000, 70000]))))
        digits = rng.choice(["%x", "%X", "%04x"]) % size
        extension = rng.choice(["", "", "", ";a", ";a=b", ';a="b;c"'])
        out += (digits + extension).encode() + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    trailers = rng.choice([b"", b"", b"X-Sum: 1\r\n", b"X-Sum: 1\r\nX-Other: two words\r\n"])
    return out + b"0\r\n" + trailers + b"\r\n"


def fields(rng, tag, old):
    lines = ["Host: " + rng.choice(["a", "example.com", "example.com:8080", "[::1]:80", "127.0.0.1"]), f"X-Case: {tag}"]
    for _ in range(rng.randint(0, 6)):
        name = "X-" + word(rng, "abcdefghijABCDEFGHIJ0123456789-", 1, 12)
        lines.append(f"{name}:{rng.choice([' ', '', '  ', chr(9)])}{word(rng, VALUE, 0, 40)}{rng.choice(['', ' '])}")
    if rng.random() < 0.2:
        lines.append("Cookie: " + "; ".join(f"{word(rng, 'abc', 1, 3)}={word(rng, 'xyz', 0, 9)}" for _ in range(3)))
    if rng.random() < 0.2:
        lines += ["X-Twice: 1", "X-Twice: 2"]
    if not old and rng.random() < 0.15:
        lines += ["Connection: X-Gone", "X-Gone: 1"]
    rng.shuffle(lines)
    return lines


def request(rng, tag, last):
    method = rng.choice(METHODS)
    old = last and rng.random() < 0.15
    # What HAProxy 2.6 does for HTTP/1.0 clients with chunked answers is wrong (RFC 9112 6.1): not compared.
    answer = rng.choice([a for a in ANSWERS if not (old and a == "chunks")])
    path = f"/{answer}/{word(rng, TOKEN.replace('#', '').replace('^', '').replace('`', '').replace('|', ''), 0, 20)}"
    path += rng.choice(["", "?", "?a=b", "?a=%20&b=/?"])
    lines = fields(rng, tag, old)
    if not old and rng.random() < 0.1:
        host = next(line for line in lines if line.startswith("Host: "))[6:]
        path = "http://" + host + path
    body = b""
    # HAProxy refuses HTTP/1.0 bodies of these methods (413): not compared.
    bodyless = old and method in ("GET", "HEAD", "DELETE")
    if not bodyless and (method not in ("GET", "HEAD", "OPTIONS") or rng.random() < 0.1):
        size = rng.choice([0, 1, 5, 100, 4096, 20000, 150000])
        content = rng.randbytes(size)
        if not old and rng.random() < 0.5:
            lines.append("Transfer-Encoding: chunked")
            body = chunks(rng, content)
        else:
            lines.append(f"Content-Length: {len(content)}")
            body = content
    closes = last and (old or rng.random() < 0.3)
    if old:
        closes = rng.random() < 0.5
        lines += [] if closes else ["Connection: keep-alive"]
    elif closes:
        lines.append(rng.choice(["Connection: close", "Connection: Close, X-Nothing"]))
    elif rng.random() < 0.2:
        lines.append("Connection: keep-alive")
    head = f"{method} {path} HTTP/1.{0 if old else 1}\r\n" + "".join(line + "\r\n" for line in lines) + "\r\n"
    return method, head.encode("latin-1") + body, closes


def segments(rng, raw):
    kind = rng.choice(["one", "one", "two", "few", "drip"])
    if kind == "one" or len(raw) < 4:
        return [raw]
    count = {"two": 2, "few": 8, "drip": 40}[kind]
    cuts = sorted({rng.randint(1, len(raw) - 1) for _ in range(count - 1)})
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)])]


def cases(count, seed=20261121):
    """`count` cases; the same seed gives the same bytes."""
    rng = random.Random(seed)
    for number in range(count):
        length = rng.choice([1, 1, 1, 2, 3, 8])
        parts = [request(rng, f"{number}.{place}", place == length - 1) for place in range(length)]
        raw = b"".join(part for _, part, _ in parts)
        yield Case(number, [method for method, _, _ in parts], segments(rng, raw), parts[-1][2])
