"""One request through a listener, as bytes: what the client gets, whoever answers."""
import ipaddress
import re
import socket
import ssl

import recorder

# What origins say with every answer.
ORIGINS = ("x-answered-by", "origin")
# Owed to one hop, to the moment, or to the length of a text that may differ.
HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "date", "content-length", "te", "upgrade"}


class Door:
    """An address that clients come to."""

    def __init__(self, name, host, port, tls, proxy_header):
        self.name, self.host, self.port, self.tls, self.proxy_header = name, host, port, tls, proxy_header

    def open(self, client, name):
        connection = socket.create_connection((self.host, self.port), 10, source_address=(client, 0))
        connection.settimeout(10)
        if self.proxy_header:
            line = f"PROXY TCP4 {client} {self.host} {connection.getsockname()[1]} {self.port}\r\n"
            connection.sendall(line.encode())
        # A client asks TLS for a name, and says the port in Host alone.
        return self.tls.wrap_socket(connection, server_hostname=name and name.partition(":")[0]) if self.tls else connection


def is_address(host):
    try:
        ipaddress.ip_address(host)
        return True
    except ValueError:
        return False


def read_answer(connection, method):
    reader = recorder.Reader(connection)
    first, *lines = reader.until(b"\r\n\r\n").split(b"\r\n")
    status, fields = int(first.split(b" ")[1]), recorder.parse_fields(lines)
    names = dict(fields)
    body = b""
    if method == "HEAD" or status in (204, 304):
        pass
    elif "transfer-encoding" in names or "content-length" in names:
        body, _ = recorder.read_body(reader, fields)
    else:
        while reader.more():
            pass
        body = reader.buffer
    return status, fields, body


class Side:
    """Either product: what came of each request, and what clients keep."""

    def __init__(self, origins):
        self.origins, self.jars, self.results, self.copies = origins, {}, {}, {}

    def play(self, request):
        jar = self.jars.setdefault(request.client, {})
        sent = dict(jar)
        status, fields, body = 0, [], b""
        try:
            # A server's name in TLS has no port.
            name = re.sub(r":\d+$", "", request.host)
            with request.door.open(request.client, None if is_address(name) else name) as connection:
                connection.sendall(request.raw(jar))
                status, fields, body = read_answer(connection, request.method)
        except (OSError, EOFError, ValueError, ssl.SSLError, recorder.Broken):
            pass
        for name, value in fields:
            found = re.match(r"([^=]+)=([^;]*)", value) if name == "set-cookie" else None
            if found:
                jar[found[1]] = found[2]
        reached = self.origins.take(str(request.number))
        self.results[request.number] = Result(status, fields, body, reached, set(sent) | set(jar))


class Result:
    """What came of a request, without what any two hops differ in. Values of cookies that were made on the way are
    hidden: they are nobody's business."""

    def __init__(self, status, fields, body, reached, made):
        self.status, self.body = status, body
        self.answer = sorted((n, HIDDEN.get(n, str)(v)) for n, v in fields if n not in HOP)
        self.addresses = [address for address, *_ in reached]
        self.request = None
        if reached:
            _, method, target, got, sent = reached[-1]
            got = [(n, "a trace" if n == "traceparent" else v) for n, v in got if n not in HOP]
            kept = [(n, hidden(v, made) if n == "cookie" else v) for n, v in got]
            self.request = (method, target, sorted(kept), sent)
        # What an endpoint answers carries a field that no configuration knows.
        self.own = ORIGINS not in fields


def hidden(cookies, made):
    pairs = [pair.strip().split("=", 1) for pair in cookies.split(";")]
    return "; ".join(f"{pair[0]}=.." if pair[0] in made else "=".join(pair) for pair in sorted(pairs))


def hidden_answer(cookie):
    pair, *attributes = [part.strip() for part in cookie.split(";")]
    return "; ".join([pair.split("=")[0] + "=..", *sorted(attribute.lower() for attribute in attributes)])


# What of an answer's fields is made on the way, or owed to the moment.
HIDDEN = {"set-cookie": hidden_answer, "expires": lambda value: "a date" if value.endswith(" GMT") else value}
