"""Endpoints by DNS, asked of Debian's unbound: answers change, hold 200 addresses, shrink to nothing, are SERVFAIL, do not
come at all. Traffic follows within the TTL plus 1 s, and no request fails while a last good answer serves."""
import collections
import http.server
import signal
import socketserver
import subprocess
import threading
import time
import urllib.error
import urllib.request

import stand

TTL = 1
# What a busy machine may take on top of the TTL and the second that is promised.
GRACE = 2.0
NAME, SERVICE = "app.lb.internal", "_web._tcp.app.lb.internal"


class Origin(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Listens on every loopback address, and says which one was asked."""

    daemon_threads, request_queue_size = True, 512


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.connection.getsockname()[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Unbound(stand.Process):
    """A resolver that answers what it is told and has nobody to ask for the rest, so that the rest is SERVFAIL."""

    def __init__(self):
        self.port, self.folder = stand.free_port(), stand.directory()
        self.config = self.folder / "unbound.conf"
        self.config.write_text(
            f'server:\n  interface: 127.0.0.1\n  port: {self.port}\n  do-daemonize: no\n  username: ""\n  chroot: ""\n'
            f'  directory: "{self.folder}"\n  pidfile: "{self.folder}/pid"\n  use-syslog: no\n  logfile: ""\n'
            "  module-config: \"iterator\"\n  do-not-query-localhost: no\n  cache-max-negative-ttl: 0\n  num-threads: 1\n"
            f'remote-control:\n  control-enable: yes\n  control-interface: "{self.folder}/control"\n  control-use-cert: no\n'
            f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{stand.free_port()}\n'
        )
        super().__init__(["/usr/sbin/unbound", "-d", "-c", self.config])
        stand.until("unbound", lambda: self.control("status", check=False).returncode == 0)

    def control(self, *words, check=True, lines=None):
        command = ["/usr/sbin/unbound-control", "-c", str(self.config), *words]
        return subprocess.run(command, check=check, input=lines, text=True, capture_output=True, timeout=10)

    def says(self, *records):
        """Puts these records in the place of all others."""
        for name in (NAME, SERVICE):
            self.control("local_zone", f"{name}.", "static")
            self.control("local_data_remove", f"{name}.")
        if records:
            self.control("local_datas", lines="".join(f"{record}\n" for record in records))

    def leads(self, *addresses):
        self.says(*(f"{NAME}. {TTL} IN A {address}" for address in addresses))

    def fails(self):
        """SERVFAIL: nothing is known here, and whoever would be asked is not there."""
        self.says()
        for name in (NAME, SERVICE):
            self.control("local_zone_remove", f"{name}.")


class Traffic(threading.Thread):
    """Requests one after the other, each on a new connection, with who answered and when."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.seen, self.failed, self.running = url, collections.deque(maxlen=20_000), [], True
        self.start()

    def run(self):
        while self.running:
            try:
                with urllib.request.urlopen(self.url, timeout=10) as answer:
                    self.seen.append((time.monotonic(), answer.read().decode()))
            except (OSError, urllib.error.URLError) as error:
                self.failed.append(str(error))
            time.sleep(0.005)

    def since(self, moment):
        return {who for at, who in list(self.seen) if at >= moment}


def follows(report, what, traffic, change, want, enough=None):
    """Makes a change; how long it takes until exactly those who are wanted answer."""
    want, begun = set(want), time.monotonic()
    change()
    changed = time.monotonic()

    def there():
        recent = traffic.since(time.monotonic() - 0.3)
        return recent and recent <= want and len(recent) >= (enough or 1)

    try:
        stand.until(what, there, 15)
        # What was looked back over, and what the change itself took, is not the proxy's.
        took = max(0.0, time.monotonic() - changed - 0.3)
    except TimeoutError:
        took = float("inf")
    report.check(what, took <= TTL + 1 + GRACE, f"{took:.1f} s, the change {changed - begun:.1f} s")


def state(proxy):
    return proxy.ask("/v1/pools/main")["names"][0]


def endpoints(proxy):
    return proxy.ask("/v1/pools/main")["endpoints"]


def stays(report, what, traffic, proxy, change, fault, want):
    """Makes DNS fail: the last answer goes on serving, and its age and the fault are shown."""
    change()
    stand.until(f"{what} to be noticed", lambda: fault in (state(proxy)["fault"] or "").lower(), 20)
    moment = time.monotonic()
    time.sleep(2 * TTL)
    shown = state(proxy)
    report.equal(f"{what}: the last answer serves", traffic.since(moment), set(want))
    report.check(f"{what}: its age is shown", shown["age_ms"] >= 1000 * TTL, f"{shown['age_ms']:.0f} ms, {shown['fault']}")


def main():
    report = stand.Report("names")
    origin = Origin(("0.0.0.0", 0), Answer)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port, unbound = origin.server_port, Unbound()
    a, b = "127.1.0.1", "127.1.0.2"
    many = [f"127.1.1.{n}" for n in range(1, 201)]
    unbound.leads(a)
    proxy = stand.Proxy(
        [f'"{NAME}:{port}"'], access="off", pool='balance = "round_robin"',
        process=f'resolvers = ["127.0.0.1:{unbound.port}"]',
    )
    stand.until("the first answer", lambda: len(endpoints(proxy)) == 1)
    traffic = Traffic(proxy.url)
    stand.until("traffic", lambda: traffic.seen)
    follows(report, "another address", traffic, lambda: unbound.leads(b), [b])
    follows(report, "two addresses", traffic, lambda: unbound.leads(a, b), [a, b], enough=2)
    follows(report, "200 addresses", traffic, lambda: unbound.leads(*many), many, enough=10)
    report.equal("each of 200 is an endpoint", len(endpoints(proxy)), 200)
    follows(report, "one of 200", traffic, lambda: unbound.leads(a), [a])
    stays(report, "an answer of nothing", traffic, proxy, unbound.says, "no address", [a])
    stays(report, "SERVFAIL", traffic, proxy, unbound.fails, "server failure", [a])
    stays(report, "silence", traffic, proxy, lambda: unbound.child.send_signal(signal.SIGSTOP), "time", [a])
    unbound.child.send_signal(signal.SIGCONT)
    # The wait between tries grows to 5 s while DNS fails; a name that is well again is followed from then on.
    unbound.leads(a)
    stand.until("DNS to be well again", lambda: not state(proxy)["fault"], 20)
    follows(report, "an address after failures", traffic, lambda: unbound.leads(b), [b])
    traffic.running = False
    traffic.join()
    report.equal("no request fails", collections.Counter(traffic.failed), collections.Counter())
    report.check("there was traffic", len(traffic.seen) > 100, f"{len(traffic.seen)} requests")
    proxy.stop()

    unbound.says(
        f"{NAME}. {TTL} IN A {a}", f"other.{NAME}. {TTL} IN A {b}",
        f"{SERVICE}. {TTL} IN SRV 10 5 {port} {NAME}.", f"{SERVICE}. {TTL} IN SRV 20 5 {port} other.{NAME}.",
    )
    proxy = stand.Proxy(
        [f'{{ name = "s", address = "srv:{SERVICE}" }}'], access="off",
        process=f'resolvers = ["127.0.0.1:{unbound.port}"]',
    )
    stand.until("the service", lambda: len(endpoints(proxy)) == 2)
    tiers = {one["name"]: one["tier"] for one in endpoints(proxy)}
    report.equal("priorities are tiers", tiers, {f"s@{a}:{port}": 0, f"s@{b}:{port}": 1})
    report.end()


if __name__ == "__main__":
    main()
