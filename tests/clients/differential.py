"""500 generated valid requests through Plimsoll and through Debian's HAProxy to the same origin: the same answers, and,
normalised, the same requests upstream."""
import re
import socket
import time

import generate
import recorder
import stand

COUNT = 500
# What each proxy adds, or owes to one hop only.
OURS = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-request-id", "forwarded", "via"}
HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade", "date", "server"}
NAMED = {"x-gone", "x-nothing"}


def exchange(port, case):
    """Sends a case and reads as many answers as it has requests."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(20)
    sender = stand.threading.Thread(target=send, args=(connection, case.segments), daemon=True)
    sender.start()
    reader, answers = recorder.Reader(connection), []
    try:
        while len(answers) < len(case.requests):
            answers.append(read_answer(reader, case.requests[len(answers)]))
        sender.join(20)
        ended = case.closes and not reader.buffer and connection.recv(1) == b""
        answers.append(("end", bool(reader.buffer), ended))
    except (OSError, EOFError, ValueError, recorder.Broken) as error:
        answers.append(("error", repr(error)))
    connection.close()
    return answers


def send(connection, segments):
    try:
        for segment in segments:
            connection.sendall(segment)
            if len(segments) > 1:
                time.sleep(0.001)
    except OSError:
        pass


def read_answer(reader, method):
    first, *lines = reader.until(b"\r\n\r\n").split(b"\r\n")
    status = int(first.split(b" ")[1])
    fields = recorder.parse_fields(lines)
    names = dict(fields)
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif "transfer-encoding" in names or "content-length" in names:
        body, _ = recorder.read_body(reader, fields)
    else:
        while reader.more():
            pass
        body, reader.buffer = reader.buffer, b""
    return status, sorted(f for f in fields if f[0] not in HOP | OURS), body


def normal(request):
    """An upstream request without what proxies may differ in."""
    method, target, _, fields, body, trailers = request
    target = re.sub(r"^http://[^/?]*", "", target) or "/"
    kept = [f for f in fields if f[0] not in HOP | OURS | NAMED]
    chunked = any(name == "transfer-encoding" for name, _ in fields)
    return method, target, sorted(kept), chunked, body, sorted(trailers)


def difference(ours, theirs):
    for place, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            return f"place {place}: ours {str(a)[:300]} theirs {str(b)[:300]}"
    return f"{len(ours)} against {len(theirs)}" if len(ours) != len(theirs) else ""


def main():
    report, origin = stand.Report("differential"), recorder.Recorder()
    proxies = [stand.Proxy([origin.port], access="off"), stand.Haproxy(origin.port)]
    wrong = 0
    for case in generate.cases(COUNT):
        answers, upstream = [], []
        for proxy in proxies:
            answers.append(exchange(proxy.port, case))
            upstream.append({tag: [normal(r) for r in rs] for tag, rs in origin.take().items()})
        found = next((f"{a}" for side in answers for a in side if a[0] == "error"), "") or difference(*answers)
        tags = [f"{case.number}.{place}" for place in range(len(case.requests))]
        found = found or difference(*[[side.get(tag) for tag in tags] for side in upstream])
        if found:
            wrong += 1
            report.check(f"case {case.number}", False, f"{found}\n     raw {case.raw[:300]!r}")
    report.equal("cases that differ", wrong, 0)
    report.equal("malformed requests at the origin", origin.broken, [])
    report.check("cases played", True, str(COUNT))
    report.end()


if __name__ == "__main__":
    main()
