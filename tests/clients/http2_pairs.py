"""HTTP/1 and 2 on either side, in the clear and under TLS: curl, nghttp, h2load, httpx and Python's h2 before nginx and Node.
Bodies with their checksums, 103, trailers both ways, thousands of streams, and connections that end while they are at work."""
import asyncio
import concurrent.futures
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading

import httpx

import certificates
import http2_peer
import origins
import stand

REPORT = stand.Report("http2 pairs")
UPLOAD = os.urandom(8 << 20)
MIB = 16
DOWN = hashlib.sha256(origins.BLOCK * MIB).hexdigest()
CLIENTS = {"h1": ["--http1.1"], "h2c": ["--http2-prior-knowledge"], "h1 under TLS": ["--http1.1"], "h2": ["--http2"]}


def run(*arguments, data=None, seconds=60):
    done = subprocess.run([str(a) for a in arguments], input=data, capture_output=True, timeout=seconds, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


class Node(stand.Process):
    def __init__(self, version, *certificate):
        self.port = stand.free_port()
        super().__init__(["node", stand.ROOT / "tests" / "node" / "http2.js", self.port, version, *certificate])
        stand.until("Node", lambda: stand.accepts(self.port))


class Nginx(stand.Process):
    """HTTP/1, HTTP/2 by prior knowledge and HTTP/2 under TLS, each on a port; GOAWAY after so many requests."""

    def __init__(self, files, requests):
        self.ports, folder = [stand.free_port() for _ in range(3)], stand.directory()
        (folder / "big").mkdir()
        (folder / "big" / str(MIB)).write_bytes(origins.BLOCK * MIB)
        folder.chmod(0o755)
        kinds = ["", "http2", "ssl http2"]
        listens = "".join(f"listen 127.0.0.1:{port} {kind} backlog=1024; " for port, kind in zip(self.ports, kinds))
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
            f"events {{ worker_connections 4096; }}\nhttp {{ access_log off; client_body_temp_path {folder}/body;\n"
            f"  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
            f"  server {{ {listens} root {folder}; ssl_certificate {files / 'server.crt'};\n"
            f"    ssl_certificate_key {files / 'server.key'}; keepalive_requests {requests};\n"
            "    location / { return 200 'version $server_protocol'; } location /big { } } }\n"
        )
        super().__init__(["/usr/sbin/nginx", "-c", config, "-p", folder])
        stand.until("nginx", lambda: stand.accepts(self.ports[0]))


class Stage:
    """One proxy before them all: by the host the origin is chosen, by the port TLS or none."""

    def __init__(self):
        self.files = certificates.Files()
        secure = [self.files / "server.crt", self.files / "server.key"]
        nodes = {"h1": Node("h1"), "h2c": Node("h2"), "h1tls": Node("h1", *secure), "h2tls": Node("h2", *secure)}
        self.kinds = {name: node.port for name, node in nodes.items()}
        nginx, leaving = Nginx(self.files, 1_000_000), Nginx(self.files, 100)
        self.nginx = dict(zip(["nginx-h1", "nginx-h2c", "nginx-h2tls"], nginx.ports))
        self.leaving = dict(zip(["leaving-h1", "leaving-h2c", "leaving-h2tls"], leaving.ports))
        self.tls_port = stand.free_port()
        text = f'[listener.tls]\nbind = ["127.0.0.1:{self.tls_port}"]\n{self.files.listener()}'
        for name, port in {**self.kinds, **self.nginx, **self.leaving}.items():
            text += f'[[route]]\nhost = "{name}.test"\npool = "{name}"\n[pool.{name}]\nendpoints = ["127.0.0.1:{port}"]\n'
            text += 'protocol = "http2"\n' if name.endswith("h2c") else ""
            text += self.files.pool() + 'protocol = "auto"\n' if name.endswith("tls") else ""
        text += '[[route]]\nhost = "aged.test"\npool = "aged"\n[pool.aged]\nmax_connection_age = "200ms"\nprotocol = "http2"\n'
        text += f'endpoints = ["127.0.0.1:{self.nginx["nginx-h2c"]}"]\n'
        self.proxy = stand.Proxy([self.kinds["h1"]], listener="h2c = true\n", access="off", text=text)

    def url(self, secure):
        return f"https://127.0.0.1:{self.tls_port}" if secure else self.proxy.url

    def curl(self, client, host, path, *more, data=None):
        ca = ["--cacert", self.files / "ca.pem"]
        url = self.url(client in ("h2", "h1 under TLS")) + path
        return run("curl", "-sS", "-m", "30", "-H", f"Host: {host}.test", *CLIENTS[client], *ca, *more, url, data=data)


def pair(stage, client, kind):
    """What one kind of client gets from one kind of origin."""
    name, got = f"{client} to {kind}", {}
    version = b"2.0" if kind.startswith("h2") else b"1.1"
    _, out, err = stage.curl(client, kind, "/", "-w", " by %{http_version}")
    got["versions"] = out == b"version " + version + (b" by 2" if client.startswith("h2") else b" by 1.1") or out + err.encode()
    digest = hashlib.sha256(UPLOAD).hexdigest().encode()
    known = stage.curl(client, kind, "/sum", "--data-binary", "@-", "-H", "Expect:", data=UPLOAD)
    got["8 MiB of known length"] = known[:2] == (0, digest) or known
    continued = stage.curl(client, kind, "/sum", "--data-binary", "@-", "-H", "Expect: 100-continue", data=UPLOAD)
    got["8 MiB after 100"] = continued[:2] == (0, digest) or continued
    streamed = stage.curl(client, kind, "/sum", "-X", "POST", "-T", "-", data=UPLOAD)
    got["8 MiB of unknown length"] = streamed[:2] == (0, digest) or streamed
    echoed = stage.curl(client, kind, "/echo", "--data-binary", "@-", data=UPLOAD)
    got["8 MiB there and back"] = echoed[:2] == (0, UPLOAD) or (echoed[0], len(echoed[1]), echoed[2])
    code, out, err = stage.curl(client, kind, f"/big/{MIB}")
    got[f"{MIB} MiB"] = (code, hashlib.sha256(out).hexdigest()) == (0, DOWN) or (code, len(out), err)
    _, out, err = stage.curl(client, kind, "/early", "-D", "-", "-o", "/dev/null")
    statuses = re.findall(rb"^HTTP/[0-9.]+ (\d+)", out, re.MULTILINE)
    got["103"] = (statuses == [b"103", b"200"] and b"link: </style.css>; rel=preload; as=style" in out.lower()) or (out, err)
    _, out, err = stage.curl(client, kind, "/trailers", "-D", "-")
    got["trailers"] = re.search(rb"\r\n\r\n.*x-sum: 42\r\nx-more: and more", out, re.DOTALL | re.IGNORECASE) is not None or (out, err)
    got["trailers of the request"] = trailed(stage, client, kind)
    wrong = {what: how for what, how in got.items() if how is not True}
    REPORT.check(f"{name}: {', '.join(got)}", not wrong, str(wrong)[:900] if wrong else "")


def trailed(stage, client, kind):
    """Node tells which trailers have come with a request."""
    want = b'{"x-sum":"23"}'
    if client.startswith("h2"):
        context = stage.files.client("h2") if client == "h2" else None
        session = http2_peer.Session(stage.tls_port if context else stage.proxy.port, context)
        stream = session.open("/trailers", "POST", f"{kind}.test", [("trailer", "x-sum")], end=False)
        stream.send(b"some of it")
        stream.finish({"x-sum": "23"})
        got = (stream.whole().status, bytes(stream.data), stream.trailers.get("x-sum"))
        session.close()
        return got == (200, want, "42") or got
    secure = client == "h1 under TLS"
    raw = socket.create_connection(("127.0.0.1", stage.tls_port if secure else stage.proxy.port), stand.DEADLINE)
    wire = stage.files.client("http/1.1").wrap_socket(raw, server_hostname="127.0.0.1") if secure else raw
    wire.sendall(f"POST /trailers HTTP/1.1\r\nHost: {kind}.test\r\nTE: trailers\r\nConnection: TE, close\r\nTrailer: x-sum\r\n"
                 "Transfer-Encoding: chunked\r\n\r\na\r\nsome of it\r\n0\r\nx-sum: 23\r\n\r\n".encode())
    out = b""
    while data := wire.recv(65536):
        out += data
    wire.close()
    return (want in out and b"\r\n0\r\nx-sum: 42\r\n" in out.lower()) or out


def nghttp(stage):
    body = stand.directory() / "body"
    body.write_bytes(UPLOAD)
    for name, secure in [("h2c", False), ("h2", True)]:
        for kind in stage.kinds:
            to = ["-H", f":authority: {kind}.test", "--no-verify-peer"]
            urls = [f"{stage.url(secure)}/{i}" for i in range(50)]
            code, out, err = run("nghttp", "-nv", *to, *urls)
            statuses = re.findall(rb":status: (\d+)", out)
            REPORT.equal(f"nghttp by {name} to {kind}, 50 at once", (code, statuses), (0, [b"200"] * 50))
            code, out, err = run("nghttp", *to, "--no-content-length", "-d", body, "--trailer", "x-sum: 23", f"{stage.url(secure)}/trailers")
            REPORT.equal(f"nghttp by {name} to {kind}, a body with trailers", (code, out), (0, b'{"x-sum":"23"}'))


def parallel(stage):
    """Streams beside each other on one connection, of curl and of httpx."""
    for kind in stage.kinds:
        name = f"https://api.test:{stage.tls_port}"
        # Many at once show their progress, whatever they are told.
        code, out, err = run("curl", "-sS", "-m", "30", "--http2", "--cacert", stage.files / "ca.pem", "-H", f"Host: {kind}.test",
                             "--resolve", f"api.test:{stage.tls_port}:127.0.0.1", "--parallel", "--parallel-max", "100",
                             f"{name}/[1-300]")
        version = b"version 2.0" if kind.startswith("h2") else b"version 1.1"
        REPORT.check(f"curl --http2 --parallel to {kind}, 300", (code, out) == (0, version * 300), f"exit {code}" if code else "")
        answers = asyncio.run(bodies(stage, kind))
        REPORT.equal(f"httpx to {kind}, 200 bodies there and back", answers, {(200, "HTTP/2", True)})


async def bodies(stage, kind):
    async with httpx.AsyncClient(http1=False, http2=True, timeout=20, verify=stage.files.client()) as client:
        async def one(number):
            body = UPLOAD[number:number * 3000]
            answer = await client.post(f"{stage.url(True)}/echo", content=body, headers={"Host": f"{kind}.test"})
            return answer.status_code, answer.http_version, answer.content == body

        return set(await asyncio.gather(*map(one, range(200))))


def h2load(url, host, *more, requests=10000):
    load = ["-n", str(requests), "-c", "8", "-m", "100"]
    code, out, err = run("h2load", *(more or load), "-H", f":authority: {host}.test", f"{url}/small")
    done = re.search(rb"requests: (\d+) total.* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out)
    fine = re.search(rb"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", out)
    good = code == 0 and done and fine and [done[3], done[4], done[5]] == [b"0"] * 3
    # With a time instead of a number, some are on their way when it is over.
    good = good and (bool(more) or int(done[2]) == requests)
    rate = re.search(rb"finished in .*", out)
    return bool(good), (rate[0].decode() if rate and good else out.decode()[-600:] + err)


def load(stage):
    for secure in [False, True]:
        for name in [*stage.kinds, *stage.nginx]:
            good, detail = h2load(stage.url(secure), name)
            REPORT.check(f"h2load -n 10000 -c 8 -m 100 by {'h2' if secure else 'h2c'} to {name}", good, detail)


def counted(proxy, metric):
    text = httpx.get(f"http://127.0.0.1:{proxy.admin}/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(metric))


def endpoints_leave(stage):
    """Origins that say GOAWAY under load, and connections that are left for their age: nobody sees any of it."""
    for name in stage.leaving:
        before = counted(stage.proxy, "plimsoll_endpoint_http2_goaways_total")
        good, detail = h2load(stage.url(False), name)
        said = counted(stage.proxy, "plimsoll_endpoint_http2_goaways_total") - before
        REPORT.check(f"h2load while {name} leaves after every 100 requests", good and (said > 50 or name == "leaving-h1"), f"{said} GOAWAYs; {detail}")
    before = counted(stage.proxy, "plimsoll_endpoint_connects_total")
    good, detail = h2load(stage.url(False), "aged", "-D", "2", "-c", "4", "-m", "20")
    made = counted(stage.proxy, "plimsoll_endpoint_connects_total") - before
    REPORT.check("h2load while connections are left at 200 ms of age", good and made > 8, f"{made} connections; {detail}")


def keeps_asking(port, over, counts):
    """Twenty requests at once, one after the other; on another connection once this one takes no more."""
    while not over.is_set():
        try:
            session = http2_peer.Session(port)
        except OSError as error:
            counts["refused"].append(str(error))
            return
        counts["connections"] += 1
        try:
            while session.goaway is None and not over.is_set():
                streams = [session.open("/echo", "POST", end=False) for _ in range(20)]
                for stream in streams:
                    stream.send(b"x" * 3000, end=True)
                for stream in streams:
                    if session.goaway is not None and stream.number > session.goaway:
                        counts["again"] += 1
                        continue
                    stream.whole()
                    if (stream.status, len(stream.data)) != (200, 3000):
                        counts["failed"].append((stream.status, len(stream.data)))
                    counts["done"] += 1
        except (http2_peer.Gone, OSError) as error:
            counts["failed"].append(repr(error))
        session.close()


def drains():
    """A new process takes over while clients ask, and then the last one ends: what was begun is finished."""
    node = Node("h2")
    proxy = stand.Proxy([node.port], listener="h2c = true\n", access="off", pool='protocol = "http2"\n')
    over = threading.Event()
    counts = {"done": 0, "connections": 0, "again": 0, "failed": [], "refused": []}
    threads = [threading.Thread(target=keeps_asking, args=(proxy.port, over, counts)) for _ in range(4)]
    for thread in threads:
        thread.start()
    stand.until("some work", lambda: counts["done"] > 200)
    code, out, err = run(stand.BINARY, "upgrade", "--admin", f"127.0.0.1:{proxy.admin}")
    successor = int(out.split()[1]) if code == 0 else None
    stand.until("everybody to have changed over", lambda: counts["connections"] >= 8 or counts["failed"] or counts["refused"])
    done = counts["done"]
    stand.until("more work", lambda: counts["done"] > done + 200 or counts["failed"] or counts["refused"])
    REPORT.equal("an upgrade under load: failed, refused", (code, counts["failed"], counts["refused"]), (0, [], []))
    REPORT.check("and everybody went on", counts["connections"] == 8, str({k: v for k, v in counts.items() if v}))
    if successor:
        os.kill(successor, signal.SIGTERM)
    for thread in threads:
        thread.join(stand.DEADLINE)
    over.set()
    REPORT.equal("a drain under load: failed", counts["failed"], [])
    # Then nobody listens any more.
    REPORT.equal("and everybody was sent away", len(counts["refused"]), 4)


def example(stage):
    """What the example says of TLS, with files that are there."""
    text = (stand.ROOT / "conf" / "http2.toml").read_text().replace('bind = ["0.0.0.0:8080"]\n', "")
    text, lines = re.subn(r"^#   (bind|tls) =", r"\1 =", text, flags=re.MULTILINE)
    for name in ["crt", "key"]:
        text = text.replace(f"/etc/plimsoll/site.{name}", str(stage.files / f"server.{name}"))
    file = stand.directory() / "http2.toml"
    file.write_text(text)
    code, _, err = run(stand.BINARY, "check", "--config", file)
    REPORT.check("conf/http2.toml with TLS is valid", (lines, code) == (2, 0), err)


def main():
    stage = Stage()
    example(stage)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(pair, stage, client, kind) for client in CLIENTS for kind in stage.kinds]:
            done.result()
    nghttp(stage)
    parallel(stage)
    load(stage)
    endpoints_leave(stage)
    drains()
    REPORT.end()


if __name__ == "__main__":
    main()
