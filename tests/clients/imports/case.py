"""One case: a folder of `tests/import/PRODUCT` whose `equivalence.json` says how it is compared. It runs in a network
namespace of its own, where every address of the configuration is one of the loopback interface.

Keys of `equivalence.json`, all optional: `requests` adds hosts, paths, fields, cookies, queries, clients and methods to those that
the configuration names, and `answers` to the statuses that origins are asked for; `substitute` is a list of [pattern, text] for
the source, as names of endpoints that are in no DNS; `health` gives statuses of paths of origins ("10.0.0.1:8008/primary": 503),
all others are 200; `through` names listeners through which clients speak TLS with the origin; `shares` gives a name to addresses
between which a share decides, whose requests may go to any of them; `copies` lists addresses that only get copies of requests;
`written` gives names of files the lines that the report has its reader write there;
`announced` lists the differences that the report announces: `kind`, `where`, `report` (its text), and where needed `about` (a
pattern for the request or the phase) and `detail` (one for what both sides did)."""
import json
import os
import ssl
import subprocess
import tomllib
import types
import urllib.request

import certificates
import namespaces
import stand
from imports import compare, exchange
from imports.exchange import Door, Side
from imports.origins import Origins
from imports.requests import Vocabulary, generate

OURS = "10.254.0.1"
# Requests while all is well, while one endpoint of each pool is dead whose death is noticed, while all of one pool are, and afterwards.
PHASES = (("all are well", 130), ("the first of each pool is dead", 80), ("all of the first pool are dead", 40), ("all are back", 50))


class Case:
    def __init__(self, product, folder):
        self.product, self.folder = product, folder
        self.says = json.loads((folder / "equivalence.json").read_text())
        self.site = site()
        self.environment = {}
        if (folder / "environment").exists():
            lines = (folder / "environment").read_text().splitlines()
            self.environment = dict(line.split("=", 1) for line in lines if "=" in line)
        sources, included = product.sources(folder), product.included(folder)
        self.beside(sources + included)
        self.files = [self.adapted(path) for path in sources + included][:len(sources)]
        self.report, self.config = self.imported()
        for name, lines in self.says.get("written", {}).items():
            (self.site.folder / name).write_text("\n".join(lines) + "\n")
        self.pools = {name: addresses(pool) for name, pool in self.config.get("pool", {}).items()}
        self.doors = self.doors_of(self.config["listener"])
        source = "\n".join(path.read_text() for path in sources + included)
        words = Vocabulary(source, self.says.get("requests", {}))
        self.requests = generate(folder.name, sum(count for _, count in PHASES), words, self.doors)
        self.up(words)
        self.shares = self.says.get("shares", {})
        self.origins = Origins(self.places(), self.site.tls, self.health, self.says.get("copies", []))

    def beside(self, adapted):
        """What a configuration finds beside it, as it is."""
        for path in self.folder.rglob("*"):
            there = self.site.folder / path.relative_to(self.folder)
            if path.is_file() and path not in adapted and not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(path.read_bytes())

    def adapted(self, path):
        text = path.read_text()
        for pattern, by in self.says.get("substitute", []):
            text = compare.re.sub(pattern, by, text)
        written = self.site.folder / path.relative_to(self.folder)
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(self.product.adapt(text, self.site))
        return written

    def imported(self):
        out, report = self.site.folder / "imported.toml", self.site.folder / "imported.txt"
        words = [stand.BINARY, "import", self.product.name, *self.files, "--output", out, "--report", report]
        done = subprocess.run(
            list(map(str, words)), env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        # 1: something is not possible, which the report says.
        if done.returncode not in (0, 1):
            raise RuntimeError(f"the import ended with {done.returncode}: {done.stderr}")
        return report.read_text(), tomllib.loads(out.read_text())

    def doors_of(self, listeners):
        doors = []
        defaults = self.config.get("defaults", {}).get("listener", {})
        for name, listener in listeners.items():
            listener = over(defaults, listener)
            if listener.get("protocol") == "udp":
                continue
            bound = [one.rsplit(":", 1) for one in listener["bind"] if not one.startswith("unix:")]
            known = [(host, port) for host, port in bound if not host.startswith("[")]
            tls = self.site.client if "tls" in listener or name in self.says.get("through", []) else None
            for host, port in known:
                place = OURS if host in ("0.0.0.0", "") else host
                doors.append(Door(name, place, int(port), tls, listener.get("accept_proxy_protocol", False)))
        return doors

    def places(self):
        found = set()
        for name in self.pools:
            pool = self.pool(name)
            port = pool.get("health", {}).get("port") if isinstance(pool.get("health"), dict) else None
            for endpoint in pool.get("endpoints", []):
                address = endpoint if isinstance(endpoint, str) else endpoint["address"]
                found.add(address)
                if port:
                    found.add(f"{address.rsplit(':', 1)[0]}:{port}")
                if isinstance(endpoint, dict) and isinstance(endpoint.get("health"), str):
                    found.add(endpoint["health"])
        # A name that is in no DNS is no place: either side must do without it.
        found = {place for place in found if exchange.is_address(place.rsplit(":", 1)[0].strip("[]"))}
        return sorted(found | set(self.says.get("origins", [])))

    def up(self, words):
        """Gives the loopback interface every address that is needed."""
        hosts = {place.rsplit(":", 1)[0] for place in self.places()} | {door.host for door in self.doors}
        hosts |= set(words.clients)
        lines = "".join(f"address add {host}/32 dev lo\n" for host in sorted(hosts) if not host.startswith("127."))
        namespaces.must(["ip", "-batch", "-"], input=lines)

    def health(self, address, path):
        says = self.says.get("health", {})
        return says.get(f"{address}{path}", says.get(f"{address}/*", 200))

    def dead(self):
        """Hosts that die in each phase."""
        noticed = [a for n, a in self.pools.items() if len(a) > 1 and (self.product.passive or "health" in self.pool(n))]
        host = lambda address: address.rsplit(":", 1)[0]
        first = {host(pool[0]) for pool in noticed}
        return [set(), first, {host(address) for address in noticed[0]} if noticed else set(), set()]

    def pool(self, name):
        return over(self.config.get("defaults", {}).get("pool", {}), self.config["pool"][name])

    def play(self, running):
        """All requests through one side, with the same deaths."""
        side, number, dead = Side(self.origins), 0, set()
        settle(running, dead, 0.0)
        for (_, count), now in zip(PHASES, self.dead()):
            if now != dead:
                back = dead - now
                for origin in self.origins.on(now - dead):
                    origin.fail()
                for origin in self.origins.on(back):
                    origin.start()
                dead = now
                settle(running, dead, self.product.bans if back else 0.0)
            for request in self.requests[number:number + count]:
                side.play(request)
            number += count
        if self.says.get("copies"):
            # Nobody waits for copies: the last may still be on their way.
            stand.time.sleep(0.5)
        running.stop()
        side.copies = self.origins.take_copies()
        return side

    def run(self):
        theirs = self.play(self.product.start(self.files, self.environment, self.site))
        ours = self.play(Ours(self.site.folder / "imported.toml", self.config, self.environment))
        pools_of = {}
        pools = {**self.pools, **self.shares}
        for name, pool in pools.items():
            for address in pool:
                pools_of.setdefault(address, set()).add(name)
        found, number = [], 0
        for request in self.requests:
            found += compare.of_request(request, theirs.results[request.number], ours.results[request.number], pools_of)
        for phase, count in PHASES:
            found += compare.of_phase(phase, self.requests[number:number + count], theirs, ours, pools)
            number += count
        found += compare.of_copies(theirs.copies, ours.copies)
        announced = [compare.Announced(*one, general=True) for one in self.product.announced]
        announced += [compare.Announced(**one) for one in self.says.get("announced", [])]
        rest, wrong = compare.unannounced(found, announced, self.report)
        reached = sum(bool(result.addresses) for result in theirs.results.values())
        return {"requests": len(self.requests), "reached": reached, "differences": len(found),
                "unannounced": [one.text() for one in rest], "wrong": wrong}


def over(defaults, own):
    """A table with its defaults under it."""
    both = {**defaults, **own}
    for key in defaults.keys() & own.keys():
        if isinstance(defaults[key], dict) and isinstance(own[key], dict):
            both[key] = over(defaults[key], own[key])
    return both


def addresses(pool):
    return [one if isinstance(one, str) else one["address"] for one in pool.get("endpoints", [])]


def site():
    """Certificates and a folder."""
    files = certificates.Files()
    # A star right below the root is no name to our TLS.
    names = "DNS:*.example.com,DNS:app.internal,DNS:*.test,DNS:localhost"
    files.issue("site", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], f"subjectAltName={names}")
    both = files / "site.pem"
    both.write_bytes((files / "site.crt").read_bytes() + (files / "site.key").read_bytes())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.load_cert_chain(files / "client.crt", files / "client.key")
    return types.SimpleNamespace(
        folder=stand.directory(), certificate=both, crt=files / "site.crt", key=files / "site.key",
        authority=files / "ca.pem", tls=server, client=client, ours=OURS,
    )


class Ours:
    """Plimsoll with what was imported."""

    def __init__(self, file, config, environment):
        bind = config.get("admin", {}).get("bind", "127.0.0.1:9900")
        # An agent that is gone says nothing of its server, on either side.
        self.agents = {name for name, pool in config.get("pool", {}).items() if pool.get("health", {}).get("check") == "agent"}
        self.url = f"http://{bind}"
        self.process = stand.Process([stand.BINARY, "run", "--config", file], env={**os.environ, **environment}, cwd=file.parent)
        stand.until("the proxy to be ready", self.ready)

    def ready(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"the proxy ended: {self.process.errors()}")
        try:
            return self.ask("/readyz") is not None
        except OSError:
            return False

    def ask(self, path):
        with urllib.request.urlopen(self.url + path, timeout=2) as answer:
            return json.load(answer) if path.startswith("/v1") else answer.read()

    def states(self):
        found = {}
        for pool in self.ask("/v1/status")["pools"]:
            for endpoint in pool["endpoints"]:
                probed = endpoint["probe"] and endpoint["probe"]["state"] != "off"
                if probed and pool["name"] not in self.agents:
                    found[f"{pool['name']}/{endpoint['address']}"] = endpoint["reason"] != "down"
        return found

    def stop(self):
        self.process.stop(stand.signal.SIGKILL)


# A side has come to rest when nothing has changed for so many looks, each 50 ms after the other.
LOOKS = 16


def settle(running, dead, least):
    """Until the dead are known to be dead, nothing changes any more, and at least so many seconds have passed."""
    last, calm, end = None, 0, stand.time.monotonic() + least

    def rests():
        nonlocal last, calm
        now = running.states()
        if now is None:
            calm += 1
            return calm > 3 * LOOKS and stand.time.monotonic() >= end
        known = all(not up for server, up in now.items() if server.split("/")[1].rsplit(":", 1)[0] in dead)
        calm = calm + 1 if known and now == last else 0
        last = now
        stand.time.sleep(0.03)
        return calm >= LOOKS and stand.time.monotonic() >= end

    stand.until("checks to notice", rests)
