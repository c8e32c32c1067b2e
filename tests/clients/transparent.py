"""`source_address = "client"` in network namespaces: clients on one network, origins on another that have Plimsoll's machine
as their router, so that their answers to clients' addresses come by it. What comes by the origins' interface is delivered
to this machine by policy routing; nothing else of a router is needed."""
import http.client
import os
import pathlib
import socket
import socketserver
import subprocess
import sys
import threading

import namespaces
import stand

REPORT = stand.Report("transparent")
PLACES = {"clients": ("10.213.1", "fd00:213:1:"), "origins": ("10.213.2", "fd00:213:2:")}
PORT, WEB, RAW, DATAGRAMS = 9000, 8080, 8081, 8082

CONFIG = """
[admin]
bind = "127.0.0.1:9900"
[log]
access = "off"
[listener.web]
bind = ["10.213.1.1:8080", "[fd00:213:1::1]:8080", "unix:@DIR@/web.sock"]
[[route]]
path = "/v6"
pool = "v6"
[[route]]
pool = "main"
[listener.raw]
bind = ["10.213.1.1:8081"]
protocol = "tcp"
pool = "main"
[listener.datagrams]
bind = ["10.213.1.1:8082"]
protocol = "udp"
pool = "main"
[pool.main]
source_address = "client"
endpoints = ["10.213.2.2:9000"]
health = { interval = "100ms" }
[pool.v6]
source_address = "client"
endpoints = ["[fd00:213:2::2]:9000"]
"""


class Host:
    """A namespace at the other end of a pair of veth, with this machine as its router."""

    def __init__(self, name, addresses):
        four, six = PLACES[name]
        self.holder = stand.Process(["unshare", "--net", "sleep", "infinity"])
        self.net = f"/proc/{self.holder.child.pid}/ns/net"
        ours = os.readlink("/proc/self/ns/net")
        stand.until("a namespace", lambda: os.readlink(self.net) != ours)
        namespaces.must(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", self.holder.child.pid])
        setting(f"conf/{name}/rp_filter", 0)
        for address in (f"{four}.1/24", f"{six}:1/64"):
            namespaces.must(["ip", "address", "add", address, "dev", name, *([] if "." in address else ["nodad"])])
        namespaces.must(["ip", "link", "set", name, "up"])
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "up")
        for place in range(2, 2 + addresses):
            self.run("ip", "address", "add", f"{four}.{place}/24", "dev", "eth0")
            self.run("ip", "address", "add", f"{six}:{place}/64", "dev", "eth0", "nodad")
        self.run("ip", "route", "add", "default", "via", f"{four}.1")
        self.run("ip", "-6", "route", "add", "default", "via", f"{six}:1")

    def inside(self, *command):
        return ["nsenter", f"--net={self.net}", *map(str, command)]

    def run(self, *command):
        return namespaces.must(self.inside(*command))


def setting(name, value):
    pathlib.Path(f"/proc/sys/net/ipv4/{name}").write_text(str(value))


def deliver():
    """What the origins send comes to this machine, whoever it is for."""
    for family in ("-4", "-6"):
        namespaces.must(["ip", family, "rule", "add", "iif", "origins", "lookup", "100"])
        namespaces.must(["ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100"])


class Handler(socketserver.BaseRequestHandler):
    """Answers every request, or line of bytes, with the address that it came from and the number of the connection."""

    count, lock = 0, threading.Lock()

    def handle(self):
        with Handler.lock:
            Handler.count += 1
            number = Handler.count
        while said := self.request.recv(4096):
            told = f"{self.client_address[0]} {number}".encode()
            if said.startswith(b"GET "):
                told = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told)
            self.request.sendall(told)


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    daemon_threads = allow_reuse_address = True


def origin():
    """Both families and datagrams; run within the origins' namespace."""
    server = Server(("::", PORT), Handler, bind_and_activate=False)
    server.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.server_bind()
    server.server_activate()
    threading.Thread(target=server.serve_forever).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("0.0.0.0", PORT))
        while True:
            _, who = datagrams.recvfrom(4096)
            datagrams.sendto(who[0].encode(), who)


def ask(kind, source, target, path, times):
    """What a client is answered; run within the clients' namespace."""
    port = {"http": WEB, "tcp": RAW, "udp": DATAGRAMS}[kind]
    answers = []
    if kind == "http":
        connection = http.client.HTTPConnection(target, port, timeout=5, source_address=(source, 0))
        for _ in range(times):
            connection.request("GET", path)
            answers.append(connection.getresponse().read().decode())
    else:
        how = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, how) as connection:
            connection.bind((source, 0))
            connection.settimeout(5)
            connection.connect((target, port))
            for _ in range(times):
                connection.send(b"who")
                answers.append(connection.recv(4096).decode())
    print("\n".join(answers))


def mapped(answers):
    """Who was seen, and on how many connections."""
    seen = [line.removeprefix("::ffff:").split(" ") for line in answers.splitlines()]
    return [one[0] for one in seen], len({one[1] for one in seen if len(one) > 1})


def main():
    if sys.argv[1:2] == ["origin"]:
        return origin()
    if sys.argv[1:2] == ["ask"]:
        kind, source, target, path, times = sys.argv[2:]
        return ask(kind, source, target, path, int(times))
    namespaces.enter()
    setting("conf/all/rp_filter", 0)
    clients, origins = Host("clients", 3), Host("origins", 1)
    deliver()
    here = pathlib.Path(__file__).resolve()
    stand.Process(origins.inside(sys.executable, here, "origin"))
    stand.until("the origin", lambda: stand.accepts(PORT, "10.213.2.2"))
    files = stand.directory()
    (files / "plimsoll.toml").write_text(CONFIG.replace("@DIR@", str(files)))
    run = [stand.BINARY, "run", "--config", files / "plimsoll.toml"]

    without = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw", "--ambient-caps=-all"]
    refused = subprocess.run([*without, *map(str, run)], capture_output=True, text=True, timeout=20, check=False)
    REPORT.equal("without the capability it does not start", refused.returncode, 1)
    REPORT.check("and says which one it needs", "CAP_NET_ADMIN" in refused.stderr, refused.stderr.strip()[-200:])

    proxy = stand.Process(run)
    stand.until("the proxy", lambda: stand.accepts(9900))

    def asked(kind, source, target="10.213.1.1", path="/", times=4):
        return mapped(clients.run(sys.executable, here, "ask", kind, source, target, path, times))

    for client in ("10.213.1.2", "10.213.1.3"):
        REPORT.equal(f"requests of {client} come from it, on one connection", asked("http", client), ([client] * 4, 1))
    first, _ = asked("http", "10.213.1.2")
    REPORT.equal("and later ones too", first, ["10.213.1.2"] * 4)
    REPORT.equal("a tcp session", asked("tcp", "10.213.1.4"), (["10.213.1.4"] * 4, 1))
    REPORT.equal("datagrams", asked("udp", "10.213.1.3"), (["10.213.1.3"] * 4, 0))
    six = asked("http", "fd00:213:1::3", "fd00:213:1::1", "/v6")
    REPORT.equal("IPv6", six, (["fd00:213:1::3"] * 4, 1))
    mixed = asked("http", "fd00:213:1::3", "fd00:213:1::1")
    REPORT.equal("of the other family the node itself connects", mixed, (["10.213.2.1"] * 4, 1))

    with socket.socket(socket.AF_UNIX) as local:
        local.connect(str(files / "web.sock"))
        local.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: local.recv(4096), b""))
    REPORT.check("and so for a client without an address", b"10.213.2.1 " in answer, answer[-60:])
    proxy.stop()
    REPORT.end()


if __name__ == "__main__":
    main()
