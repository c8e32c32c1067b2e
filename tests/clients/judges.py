"""Judges behind Plimsoll: Node's http server, Python's h11 and http_desync_guardian must accept everything that is
forwarded, with the whole corpus and the generated requests as what clients send."""
import json
import re
import socket
import subprocess
import threading

import h11

import generate
import stand

CORPUS = stand.ROOT / "tests" / "corpus"
GUARDIAN = stand.ROOT / "tests" / "judge"


def inputs():
    """Every raw request there is, with its name."""
    for file in ("raw-requests.json", "more-requests.json"):
        for case in json.loads((CORPUS / file).read_text(encoding="utf-8")):
            raw = case["raw"] if isinstance(case["raw"], str) else "".join(t * n for t, n in case["raw"])
            yield case["id"], raw.encode("latin-1")
    for case in generate.cases(300, seed=7):
        yield f"generated {case.number}", case.raw


def play(port, raw, quiet=0.25):
    """Sends bytes and reads until the proxy closes or is quiet."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    threading.Thread(target=push, args=(connection, raw), daemon=True).start()
    connection.settimeout(quiet)
    try:
        while connection.recv(262144):
            pass
    except OSError:
        pass
    connection.close()


def push(connection, raw):
    try:
        connection.sendall(raw)
    except OSError:
        pass


def drive(port, note):
    """Plays all inputs over a few threads; `note` is told the name before each where order matters."""
    work = list(inputs())
    threads = [threading.Thread(target=lambda part=work[n::8]: [play(port, raw) for _, raw in part]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    note(len(work))


class H11Judge:
    """An origin whose only parser is h11; keeps every head for the guardian."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.refused, self.heads, self.lock = [], [], threading.Lock()
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        judge = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        raw, received = b"", b""
        try:
            while True:
                event = judge.next_event()
                if event is h11.NEED_DATA:
                    data = connection.recv(262144)
                    received += data
                    if not data:
                        return  # an aborted upload is no finding
                    judge.receive_data(data)
                elif isinstance(event, h11.Request):
                    raw = rebuild(event)
                    with self.lock:
                        self.heads.append(raw)
                elif isinstance(event, h11.EndOfMessage):
                    reply = judge.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    connection.sendall(reply + judge.send(h11.EndOfMessage()))
                    if judge.our_state is not h11.DONE or judge.their_state is not h11.DONE:
                        return
                    judge.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    return
        except h11.RemoteProtocolError as error:
            with self.lock:
                self.refused.append(f"{error}: {received[-300:]!r}")
        except h11.LocalProtocolError as error:
            with self.lock:
                self.refused.append(f"cannot be answered: {error}: {received[-300:]!r}")
        except OSError:
            pass
        finally:
            connection.close()


def rebuild(event):
    """The head as it was sent but for the case of names, which the guardian does not look at."""
    lines = [event.method + b" " + event.target + b" HTTP/" + event.http_version]
    lines += [name + b": " + value for name, value in event.headers.raw_items()]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def judge_guardian(report, heads):
    build = subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--manifest-path", GUARDIAN / "Cargo.toml",
         "--target-dir", stand.ROOT / "target" / "judge"], check=False)
    if not report.equal("the guardian builds", build.returncode, 0):
        return
    lines = "".join(head.hex() + "\n" for head in heads)
    binary = stand.ROOT / "target" / "judge" / "release" / "judge"
    run = subprocess.run([binary], input=lines, capture_output=True, text=True, check=False)
    verdicts = run.stdout.splitlines()
    report.equal("guardian verdicts", len(verdicts), len(heads))
    # A body of a GET or HEAD has no meaning but a certain end: the guardian's defensive mode lets these through.
    bodies = ("UndefinedContentLengthSemantics", "UndefinedTransferEncodingSemantics", "GetHeadZeroContentLength")
    bad = [f"{verdict}: {head[:300]!r}" for verdict, head in zip(verdicts, heads)
           if verdict.split(" ")[0] not in ("Compliant", "Acceptable") and not (verdict.split(" ")[1] in bodies and head.startswith((b"GET ", b"HEAD ")))]
    report.check("the guardian accepts what is forwarded", not bad, "\n     ".join(bad[:10]) or f"{len(heads)} heads")


def unknown_method(line):
    """Node knows a fixed list of methods; these two of the inputs are not on it, and nothing else is wrong with them."""
    known = re.match(r"(BREW|get) \S+ HTTP/1\.1\r\n", line.get("bytes", ""), re.I)
    return line["refused"] == "HPE_INVALID_METHOD" and known


def judge_node(report):
    port = stand.free_port()
    node = stand.Process(["node", "--max-http-header-size=262144", stand.ROOT / "tests" / "node" / "judge.js", str(port)])
    stand.until("Node", lambda: stand.accepts(port))
    proxy = stand.Proxy([port], pool='retry = "off"')
    drive(proxy.port, lambda count: report.check("requests played to Node", count > 400, str(count)))
    proxy.stop()
    node.stop()
    lines = [json.loads(line) for line in node.output().split("\n") if line]
    refused = [line for line in lines if line.get("refused") and not unknown_method(line)]
    report.check("Node accepts what is forwarded", not refused, "\n     ".join(map(str, refused[:10])))
    asked = [line for line in lines if line.get("request")]
    report.check("Node saw requests", len(asked) > 400, str(len(asked)))
    records = [r for r in proxy.records() if r["endpoint"] and r["status"] == 400 and r["end"] == "done"]
    report.check("Node answers nothing with 400", not records, str(records[:3]))


def main():
    report = stand.Report("judges")
    judge = H11Judge()
    proxy = stand.Proxy([judge.port], access="off", pool='retry = "off"')
    drive(proxy.port, lambda count: report.check("requests played to h11", count > 400, str(count)))
    report.check("h11 accepts what is forwarded", not judge.refused, "\n     ".join(judge.refused[:10]))
    report.check("h11 saw requests", len(judge.heads) > 400, str(len(judge.heads)))
    judge_guardian(report, judge.heads)
    judge_node(report)
    report.end()


if __name__ == "__main__":
    main()
