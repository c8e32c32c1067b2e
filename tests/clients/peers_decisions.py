"""nginx and HAProxy from Debian beside Plimsoll, asked the same: 10,000 requests of 500 clients, made by a seed. Who the client
is behind proxies has to come out the same for every request, and so has what a sticky cookie means: who keeps an endpoint, who
moves when it goes, who gets a new cookie."""
import ipaddress
import random
import re
import socket
import threading

from stand import Process, Proxy, Report, accepts, directory, free_port, until

NGINX, HAPROXY = "/usr/sbin/nginx", "/usr/sbin/haproxy"
SEED = 20261121
REQUESTS, CLIENTS = 10_000, 500
TRUSTED = ["127.0.0.0/24", "10.0.0.0/8", "fd00::/8"]
# Of this machine: one that is trusted, and one that is not.
NEAR, STRANGER = "127.0.0.1", "127.9.0.1"


class Connection:
    """A keep-alive connection of HTTP/1.1 that asks one request at a time."""

    def __init__(self, port, source=NEAR, first=b""):
        self.where, self.first, self.stream = (port, source), first, None

    def ask(self, fields=(), path="/"):
        """Status, fields and body of the answer."""
        if self.stream is None:
            port, source = self.where
            self.stream = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
            self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.rest = b""
            self.stream.sendall(self.first)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self.stream.sendall(f"GET {path} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n".encode())
        while b"\r\n\r\n" not in self.rest:
            self.read()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        status, *lines = head.decode("latin-1").split("\r\n")
        answer = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = int(dict(answer)["content-length"])
        while len(self.rest) < length:
            self.read()
        body, self.rest = self.rest[:length], self.rest[length:]
        if dict(answer).get("connection", "").lower() == "close":
            self.close()
        return int(status.split()[1]), answer, body.decode().strip()

    def read(self):
        more = self.stream.recv(65536)
        if not more:
            raise ConnectionError("closed before the answer was whole")
        self.rest += more

    def close(self):
        if self.stream is not None:
            self.stream.close()
            self.stream = None


def nginx(http, name):
    """nginx with this inside `http`."""
    folder = directory()
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error;"
        f"events {{ worker_connections 4096; }}\nhttp {{ access_log off; keepalive_requests 1000000; {paths}\n{http}\n}}\n"
    )
    process = Process([NGINX, "-p", folder, "-c", folder / "nginx.conf"])
    port = int(re.search(r"listen 127\.0\.0\.1:(\d+)", http).group(1))
    until(name, lambda: accepts(port))
    return process


def haproxy(text, port):
    folder = directory()
    (folder / "haproxy.cfg").write_text(
        f"global\n  stats socket {folder}/stats mode 600 level admin\n"
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n" + text
    )
    process = Process([HAPROXY, "-db", "-f", folder / "haproxy.cfg"])
    process.stats = str(folder / "stats")
    until("HAProxy", lambda: accepts(port))
    return process


def clients(chance):
    """Addresses of clients, none of them trusted."""
    four = [f"203.0.{chance.randrange(256)}.{chance.randrange(256)}" for _ in range(CLIENTS * 3 // 5)]
    six = [str(ipaddress.IPv6Address(0x20010DB8 << 96 | chance.getrandbits(64))) for _ in range(CLIENTS - len(four))]
    return four + six


def written(address, chance, ports):
    """An address as some proxy writes it."""
    if ports and chance.random() < 0.3:
        port = chance.randrange(1, 65536)
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return address


def chains(chance, ports):
    """Requests, each with the lines of X-Forwarded-For that it comes with and whether its peer is trusted."""
    known = clients(chance)
    requests = []
    for _ in range(REQUESTS):
        # What stands left of the client is the client's own invention.
        forged = [chance.choice(["unknown", "6.6.6.6", "10.9.9.9", "::1", "_x", "evil"]) for _ in range(chance.randrange(3))]
        hops = [chance.choice(["10.1.2.3", "10.200.0.1", "fd00::7", "127.0.0.9"]) for _ in range(chance.randrange(3))]
        hidden = ["unknown"] if hops and chance.random() < 0.05 else []
        chain = forged + [chance.choice(known)] + hidden + hops
        if chance.random() < 0.02:
            chain = []
        chain = [written(one, chance, ports) if "." in one or ":" in one else one for one in chain]
        cut = chance.randrange(len(chain) + 1)
        lines = [part for part in (chain[:cut], chain[cut:]) if part]
        fields = [("X-Forwarded-For", chance.choice([", ", ","]).join(part)) for part in lines]
        requests.append((fields, chance.random() < 0.9))
    return requests


def told(port, requests):
    """What a proxy takes for the client's address, request by request."""
    near, stranger = Connection(port), Connection(port, STRANGER)
    answers = [(near if trusted else stranger).ask(fields)[2] for fields, trusted in requests]
    return [str(ipaddress.ip_address(answer)) if answer else answer for answer in answers]


def side_by_side(report, name, requests, ports):
    """Asks all of them at once and compares."""
    results, threads = {}, []
    for who, port in ports.items():
        def run(who=who, port=port):
            results[who] = told(port, requests)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for thread in threads:
        thread.join()
    ours = results.pop("plimsoll", [])
    for peer, theirs in results.items():
        differing = [i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]]
        detail = f"{len(ours)} requests, {len(set(ours))} clients"
        if differing:
            i = differing[0]
            detail = f"{len(differing)} differ, as {requests[i]}: {ours[i]!r}, {peer} {theirs[i]!r}"
        report.check(f"{name}: the same clients as {peer}", len(ours) == REQUESTS and not differing, detail)
    return ours


def networks(report, echo):
    """By trusted networks: nginx's real_ip_recursive."""
    requests = chains(random.Random(SEED), ports=True)
    trusted = "".join(f"set_real_ip_from {network};" for network in TRUSTED)
    port = free_port()
    peer = nginx(
        f"{trusted} real_ip_header X-Forwarded-For; real_ip_recursive on;"
        f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "$remote_addr\\n"; }} }}',
        "nginx",
    )
    listener = f"trusted_proxies = {TRUSTED}".replace("'", '"')
    proxy = Proxy([echo], listener=listener, access="off", process="workers = 1")
    ours = side_by_side(report, "trusted networks", requests, {"plimsoll": proxy.port, "nginx": port})
    report.check("trusted networks: most of 500 clients are told apart", len(set(ours)) > CLIENTS * 0.9, len(set(ours)))
    proxy.stop()
    peer.stop()


def hops(report, echo):
    """By a count of hops: HAProxy's hdr_ip, counted from the right."""
    for count in (1, 2, 3):
        requests = chains(random.Random(SEED + count), ports=False)
        port = free_port()
        peer = haproxy(
            f"frontend f\n  bind 127.0.0.1:{port}\n"
            f"  http-request set-src req.hdr_ip(x-forwarded-for,-{count}) if {{ src {TRUSTED[0]} }}\n"
            '  http-request return status 200 content-type text/plain lf-string "%[src]"\n',
            port,
        )
        listener = f'trusted_proxies = ["{TRUSTED[0]}"]\ntrusted_hops = {count}'
        proxy = Proxy([echo], listener=listener, access="off", process="workers = 1")
        side_by_side(report, f"{count} hops", requests, {"plimsoll": proxy.port, "haproxy": port})
        proxy.stop()
        peer.stop()


def header(address, version):
    """A PROXY header of a client at this address."""
    six = ":" in address
    there = "2001:db8::1" if six else "192.0.2.1"
    if version == 1:
        return f"PROXY TCP{6 if six else 4} {address} {there} 4711 443\r\n".encode()
    body = b"".join(ipaddress.ip_address(one).packed for one in (address, there)) + b"\x12\x67\x01\xbb"
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + (b"\x21" if six else b"\x11") + len(body).to_bytes(2, "big") + body


def proxy_headers(report, echo):
    """By PROXY headers, 500 connections with 20 requests each, of which what X-Forwarded-For says is worth nothing."""
    chance = random.Random(SEED)
    known = clients(chance)
    port, other = free_port(), free_port()
    peers = [
        nginx(
            f"set_real_ip_from {TRUSTED[0]}; real_ip_header proxy_protocol;"
            f'server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ return 200 "$remote_addr\\n"; }} }}',
            "nginx",
        ),
        haproxy(
            f"frontend f\n  bind 127.0.0.1:{other} accept-proxy\n"
            '  http-request return status 200 content-type text/plain lf-string "%[src]"\n',
            other,
        ),
    ]
    listener = f'trusted_proxies = ["{TRUSTED[0]}"]\naccept_proxy_protocol = true'
    proxy = Proxy([echo], listener=listener, access="off", process="workers = 1")
    ports = {"plimsoll": proxy.port, "nginx": port, "haproxy": other}
    results = {who: [] for who in ports}
    for number, client in enumerate(known):
        for who, to in ports.items():
            connection = Connection(to, first=header(client, 1 + number % 2))
            for _ in range(REQUESTS // CLIENTS):
                answer = connection.ask([("X-Forwarded-For", "6.6.6.6")])[2]
                results[who].append(str(ipaddress.ip_address(answer)))
            connection.close()
    want = [str(ipaddress.ip_address(client)) for client in known for _ in range(REQUESTS // CLIENTS)]
    for who, got in results.items():
        report.check(f"PROXY headers: {who} sees the client that they name", got == want, f"{len(got)} requests")
    for process in [proxy, *peers]:
        process.stop()


class Farm:
    """Four endpoints, each an nginx that says its name and can be stopped and started."""

    def __init__(self):
        self.ports = [free_port() for _ in range(4)]
        self.running = [None] * 4
        for number in range(4):
            self.start(number)

    def start(self, number):
        text = f'server {{ listen 127.0.0.1:{self.ports[number]}; location / {{ return 200 "s{number}\\n"; }} }}'
        self.running[number] = nginx(text, f"endpoint {number}")

    def kill(self, number):
        self.running[number].stop()

    def stop(self):
        for process in self.running:
            process.stop()


class Browsers:
    """500 clients, each with a jar of one cookie, behind one proxy."""

    def __init__(self, name, port, cookie):
        self.name, self.cookie = name, cookie
        self.connection = Connection(port)
        self.jars, self.endpoints, self.given = [None] * CLIENTS, [None] * CLIENTS, [0] * CLIENTS
        self.faults = []

    def ask(self, order, down=()):
        """Each request of `order` by its client; notes what breaks the rules while these endpoints are down. Who moved."""
        moved = set()
        for client in order:
            jar, before = self.jars[client], self.endpoints[client]
            fields = [("Cookie", f"other=1; {self.cookie}={jar}; more=2")] if jar else []
            status, answer, endpoint = self.connection.ask(fields)
            cookies = [value for name, value in answer if name == "set-cookie"]
            must_move = before is not None and before in down
            if status != 200 or endpoint in down:
                self.faults.append((client, "was not served", status, endpoint))
            if before is not None and not must_move and endpoint != before:
                self.faults.append((client, "was moved without need", before, endpoint))
            if len(cookies) != (1 if before is None or must_move else 0):
                self.faults.append((client, "was given cookies", before, cookies))
            for cookie in cookies:
                self.jars[client] = re.match(rf"{self.cookie}=([^;]+)", cookie).group(1)
                self.given[client] += 1
                private = [value for name, value in answer if name == "cache-control"]
                # HAProxy's nocache marks only what it knows to be cacheable.
                if self.name == "plimsoll" and not any("private" in one or "no-cache" in one for one in private):
                    self.faults.append((client, "was given a cookie that caches may keep", private))
            if before is not None and endpoint != before:
                moved.add(client)
            self.endpoints[client] = endpoint
        return moved


def cookies(report):
    """HAProxy's `cookie insert indirect nocache` and a sticky pool: a phase with all four endpoints, one with three, one with
    all of them again; all of a client's requests but its first of a phase have to stay."""
    farm = Farm()
    chance = random.Random(SEED)
    other = free_port()
    servers = "".join(
        f"  server s{number} 127.0.0.1:{port} cookie c{number} check inter 200ms rise 1 fall 1\n"
        for number, port in enumerate(farm.ports)
    )
    peer = haproxy(
        f"frontend f\n  bind 127.0.0.1:{other}\n  default_backend b\nbackend b\n  balance roundrobin\n  option httpchk GET /\n"
        f"  option redispatch 1\n  cookie lb insert indirect nocache\n{servers}",
        other,
    )
    pool = (
        'balance = "round_robin"\n[pool.main.sticky]\ncookie = "lb"\nfailback = "stay"\n'
        '[pool.main.health]\npath = "/"\ninterval = "200ms"\nrise = 1\nfall = 1\ndamping = "off"\n'
        '[pool.main.failback]\nafter = "0s"\nramp = "0s"\n'
    )
    proxy = Proxy(farm.ports, pool=pool, access="off", process="workers = 1")

    def servers_up():
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(peer.stats)
            stats.sendall(b"show stat\n")
            text = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line.startswith("b,s")]
        return sum(row[17].startswith("UP") for row in rows)

    def all_know(count):
        usable = lambda: sum(bool(one["usable"]) for one in proxy.ask("/v1/pools/main")["endpoints"])
        until(f"{count} endpoints to be up for both", lambda: servers_up() == count and usable() == count)

    both = [Browsers("haproxy", other, "lb"), Browsers("plimsoll", proxy.port, "lb")]
    phases = [([], 4_000), (["s1"], 3_000), ([], 3_000)]
    for down, count in phases:
        all_know(4 - len(down))
        order = [chance.randrange(CLIENTS) for _ in range(count)]
        pinned = [{client for client, endpoint in enumerate(one.endpoints) if endpoint in down} for one in both]
        moved = [one.ask(order, set(down)) for one in both]
        for one, was, went in zip(both, pinned, moved):
            name = f"cookies: {one.name} with {4 - len(down)} endpoints"
            report.check(f"{name}: only clients of the lost one move", went == was & set(order), f"{len(went)} moved")
            report.check(f"{name}: the same rules for {count} requests", not one.faults, one.faults[:3])
        if down == [] and phases[0] == (down, count):
            farm.kill(1)
        elif down:
            farm.start(1)
    first, second = ([one.given[client] for client in range(CLIENTS)] for one in both)
    report.equal("cookies: as many for each client from both", second, first)
    report.check("cookies: none has more than one for its first endpoint and one for its move", max(second) <= 2, max(second))
    same = sum(a == b for a, b in zip(both[0].endpoints, both[1].endpoints))
    report.check("cookies: the clients end up at the same endpoints", same > 0, f"{same} of {CLIENTS} at the very same")
    for process in (proxy, peer, farm):
        process.stop()


def main():
    report = Report("peers_decisions")
    port = free_port()
    echo = nginx(f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "$http_x_real_ip\\n"; }} }}', "the endpoint")
    networks(report, port)
    hops(report, port)
    proxy_headers(report, port)
    echo.stop()
    cookies(report)
    report.end()


if __name__ == "__main__":
    main()
