"""10,000 seeded requests of 500 clients through Plimsoll, Debian's nginx and Debian's HAProxy at the same moments: the same
decisions as nginx's limit_req within one request per client, and as HAProxy's http_req_rate where that means the same."""
import collections
import random
import socket
import time

import stand

SEED = 20261121
REQUESTS, CLIENTS, SECONDS = 10_000, 500, 18.0
# Those that come once, all at once: nothing is due again meanwhile, so a sliding window decides as a bucket does.
ONCE = 100
RATE, BURST = 2, 5


def schedule():
    """When which client asks: bursts of some, an even pace of others, both below and far above the rate."""
    draw = random.Random(SEED)
    asked = []
    for client in range(ONCE):
        start = draw.uniform(0, SECONDS)
        asked += [(start, client)] * draw.randint(1, 20)
    while len(asked) < REQUESTS:
        client = draw.randint(ONCE, CLIENTS - 1)
        start, count = draw.uniform(0, SECONDS), draw.choice([1, 1, 2, 5, 8, 15])
        gap = draw.choice([0.0, 0.0, 0.05, 0.3, 0.7])
        asked += [(start + gap * n, client) for n in range(count)]
    return sorted(asked[:REQUESTS])


class Peer:
    """A connection to one proxy that asks in the name of any client."""

    def __init__(self, name, port):
        self.name, self.port, self.connection = name, port, None
        self.passed, self.refused = collections.Counter(), collections.Counter()
        self.connect()

    def connect(self):
        self.connection = socket.create_connection(("127.0.0.1", self.port), 10)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def ask(self, client):
        request = f"GET /ok HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.18.{client // 256}.{client % 256}\r\n\r\n"
        try:
            self.connection.sendall(request.encode())
        except OSError:
            # It has closed after the answer before, and could not say so in time.
            self.connect()
            self.connection.sendall(request.encode())

    def hear(self, client):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        fields = head.lower().split(b"\r\n")
        lengths = [int(f.split(b":")[1]) for f in fields if f.startswith(b"content-length:")]
        length = lengths[0] if lengths else 0
        while len(self.buffer) < length:
            self.more()
        self.buffer = self.buffer[length:]
        status = int(head.split(b" ")[1])
        if status not in (200, 429):
            raise RuntimeError(f"{self.name} answered {status}")
        (self.passed if status == 200 else self.refused)[client] += 1
        if b"connection: close" in fields:
            self.connection.close()
            self.connect()

    def more(self):
        got = self.connection.recv(65536)
        if not got:
            raise RuntimeError(f"{self.name} has closed the connection")
        self.buffer += got


def nginx():
    folder, port = stand.directory(), stand.free_port()
    (folder / "ok").write_text("ok\n")
    folder.chmod(0o755)
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
 access_log off; keepalive_requests 1000000;
 client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
 uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
 limit_req_zone $binary_remote_addr zone=api:10m rate={RATE}r/s;
 limit_req_log_level info; limit_req_status 429;
 set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
 server {{ listen 127.0.0.1:{port}; root {folder}; location / {{ limit_req zone=api burst={BURST} nodelay; }} }}
}}
"""
    )
    return stand.Process(["/usr/sbin/nginx", "-p", folder, "-c", config]), port


def haproxy():
    folder, port = stand.directory(), stand.free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""global
 nbthread 1
defaults
 mode http
 timeout client 60s
 timeout server 60s
 timeout connect 5s
frontend web
 bind 127.0.0.1:{port}
 stick-table type ip size 200k expire 30m store http_req_rate({round(SECONDS) * 3}s)
 http-request track-sc0 req.hdr_ip(x-forwarded-for)
 http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {BURST + 1} }}
 http-request return status 200 content-type text/plain string ok
"""
    )
    return stand.Process(["/usr/sbin/haproxy", "-db", "-f", config]), port


def plimsoll():
    text = (
        '[[route]]\nname = "limited"\npath = "/ok"\nrespond = { status = 200, body = "ok" }\n'
        f'rate_limit = {{ key = "source", rate = "{RATE}/s", burst = {BURST} }}\n'
    )
    proxy = stand.Proxy([1], access="off", text=text, listener='trusted_proxies = ["127.0.0.0/8"]')
    return proxy, proxy.port


def main():
    report = stand.Report("limits_peers")
    running = {"plimsoll": plimsoll(), "nginx": nginx(), "haproxy": haproxy()}
    for name, (process, port) in running.items():
        stand.until(f"{name} to accept", lambda port=port: stand.accepts(port))
    peers = {name: Peer(name, port) for name, (_, port) in running.items()}
    asked, start = schedule(), time.monotonic()
    for at, client in asked:
        wait = start + at - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        for peer in peers.values():
            peer.ask(client)
        for peer in peers.values():
            peer.hear(client)
    took = time.monotonic() - start
    ours, theirs, third = peers["plimsoll"], peers["nginx"], peers["haproxy"]
    for peer in peers.values():
        print(f"{peer.name}: {sum(peer.passed.values())} passed, {sum(peer.refused.values())} refused in {took:.1f} s")
    clients = {client for _, client in asked}
    apart = {c: ours.passed[c] - theirs.passed[c] for c in clients if ours.passed[c] != theirs.passed[c]}
    print(f"{len(clients)} clients; {len(apart)} of them with another count than nginx's: {sorted(apart.items())[:10]}")
    report.check("the load is what it should be", len(asked) == REQUESTS and len(clients) > CLIENTS * 0.95)
    report.check("both pass and refuse thousands", min(sum(ours.passed.values()), sum(ours.refused.values())) > 1000)
    report.check("nginx decides the same within one request of each client", all(abs(n) <= 1 for n in apart.values()))
    once = [c for c in clients if c < ONCE]
    different = [c for c in once if ours.passed[c] != third.passed[c]]
    report.check(f"haproxy decides the same of the {len(once)} that come once", not different, different[:5])
    report.end()


if __name__ == "__main__":
    main()
