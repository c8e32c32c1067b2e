"""Two regions, half of the clients each, that fail over to each other, and a canary of 5 %, all sticky by cookie, under load.
A region is cut: of 100,000 GETs none fails, whoever was there is told once where he belongs now, nobody else is told anything.
It comes back: new clients are shared out evenly again, and those who had to go stay. Then one of two applications answers
404 on its probe in one region: its clients move, each told once, and those of the other application do not.

The origins are Plimsoll too, which answers by itself."""
import asyncio
import collections
import itertools
import json
import os
import signal
import time
import urllib.request

import stand

GETS = 100_000
CLIENTS = 2_000
NEWCOMERS = 10_000
CONNECTIONS = 32
# Of a thousand.
WEIGHTS = {"a": 475, "b": 475, "canary": 50}
APPS = ("shop", "blog")



class Region:
    """Two hosts of a region, each with all applications: a process that answers by itself."""

    def __init__(self, name, hosts):
        self.name = name
        self.ports = {f"{name}{number}": stand.free_port() for number in range(1, hosts + 1)}
        self.admin = stand.free_port()
        self.file = stand.directory() / "origin.toml"
        self.write({})
        self.start()

    def write(self, statuses):
        """With a status for the probe of each application; 200 unless given."""
        text = f"[process]\nworkers = 1\n[admin]\nbind = \"127.0.0.1:{self.admin}\"\n[log]\naccess = \"off\"\n"
        for app in APPS:
            text += (
                f"[[route]]\nname = \"{app}-probe\"\npath = \"/{app}/health\"\n"
                f"respond = {{ status = {statuses.get(app, 200)}, body = \"\" }}\n"
            )
        for host, port in self.ports.items():
            text += (
                f"[listener.{host}]\nbind = [\"127.0.0.1:{port}\"]\n"
                f"[[route]]\nname = \"{host}\"\nlisteners = [\"{host}\"]\n"
                f"respond = {{ status = 200, body = \"{host}\" }}\n"
            )
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def start(self):
        self.process = stand.Process([stand.BINARY, "run", "--config", self.file])
        stand.until(f"region {self.name}", lambda: all(stand.accepts(port) for port in self.ports.values()))

    def cut(self):
        self.process.stop(signal.SIGKILL)

    def probes(self, statuses):
        self.write(statuses)
        self.process.child.send_signal(signal.SIGHUP)


class Edge(stand.Process):
    def __init__(self, regions):
        self.port, self.admin = stand.free_port(), stand.free_port()
        text = (
            f"[process]\nworkers = 1\n[admin]\nbind = \"127.0.0.1:{self.admin}\"\n[log]\naccess = \"off\"\n"
            f"[listener.web]\nbind = [\"127.0.0.1:{self.port}\"]\n"
        )
        for app in APPS:
            parts = ", ".join(f'{{ pool = "{app}-{region}", weight = {w} }}' for region, w in WEIGHTS.items())
            text += f"[[route]]\nname = \"{app}\"\npath_prefix = \"/{app}\"\nsplit = [{parts}]\nsplit_by = \"sticky\"\n"
            for region, other in (("a", "b"), ("b", "a"), ("canary", "")):
                listed = ", ".join(
                    f'{{ name = "{host}", address = "127.0.0.1:{port}" }}' for host, port in regions[region].ports.items()
                )
                failover = f'failover = ["{app}-{other}"]\n' if other else ""
                text += (
                    f"[pool.{app}-{region}]\nendpoints = [{listed}]\n{failover}"
                    f"failback = {{ after = \"500ms\", ramp = \"0s\" }}\nslow_start = \"0s\"\n"
                    f"sticky = {{ cookie = \"{app}\" }}\n"
                    f"[pool.{app}-{region}.health]\npath = \"/{app}/health\"\ninterval = \"200ms\"\ntimeout = \"1s\"\n"
                    f"fall = 2\nrise = 1\n"
                )
        file = stand.directory() / "edge.toml"
        file.write_text(text)
        super().__init__([stand.BINARY, "run", "--config", file])
        stand.until("the edge", lambda: stand.accepts(self.admin) and stand.accepts(self.port))
        for app in APPS:
            self.until_usable(f"{app}-a", 2)

    def until_usable(self, pool, endpoints):
        stand.until(f"{endpoints} usable endpoints of {pool}", lambda: self.usable(pool) == endpoints)

    def usable(self, pool):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/v1/pools/{pool}", timeout=5) as answer:
            return json.load(answer)["usable"]


class Client:
    """Somebody with a jar of one cookie."""

    def __init__(self, app):
        self.app, self.cookie, self.at, self.told, self.busy = app, None, None, 0, False

    def region(self):
        return self.at.rstrip("0123456789")


class Connection(asyncio.Protocol):
    """Asks for one client after the other; a client never asks twice at a time."""

    def __init__(self, take, statuses, done):
        self.take, self.statuses, self.done = take, statuses, done
        self.client, self.received = None, b""

    def connection_made(self, transport):
        self.transport = transport
        self.next()

    def next(self):
        self.client = self.take()
        if self.client is None:
            self.transport.close()
            return
        self.client.busy = True
        cookie = f"Cookie: {self.client.cookie}\r\n" if self.client.cookie else ""
        self.transport.write(f"GET /{self.client.app}/ HTTP/1.1\r\nHost: a\r\n{cookie}\r\n".encode())

    def data_received(self, data):
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        fields = head.decode().split("\r\n")
        named = collections.defaultdict(list)
        for field in fields[1:]:
            name, _, value = field.partition(": ")
            named[name.lower()].append(value)
        if len(body) < int(named["content-length"][0]):
            return
        client, self.received, self.client = self.client, b"", None
        status = fields[0].split(" ")[1]
        self.statuses[status] += 1
        if status == "200":
            client.at = body.decode()
        for set_cookie in named["set-cookie"]:
            client.cookie = set_cookie.split(";")[0]
            client.told += 1
        client.busy = False
        self.next()

    def connection_lost(self, _):
        if self.client is not None:
            self.statuses["broken off"] += 1
            self.client.busy = False
        self.done.set_result(None)


async def load(edge, clients, gets, at=()):
    """So many GETs by these clients in turn; `at` are pairs of a number of GETs and what to do when they are done."""
    turn, left, statuses = itertools.cycle(clients), [gets], collections.Counter()
    at = list(at)

    def take():
        while at and gets - left[0] >= at[0][0]:
            at.pop(0)[1]()
        if left[0] == 0:
            return None
        left[0] -= 1
        return next(client for client in turn if not client.busy)

    loop, ends = asyncio.get_running_loop(), []
    for _ in range(CONNECTIONS):
        end = loop.create_future()
        ends.append(end)
        await loop.create_connection(lambda: Connection(take, statuses, end), "127.0.0.1", edge.port)
    await asyncio.gather(*ends)
    return statuses


def shares(clients):
    counted = collections.Counter(client.region() for client in clients)
    return {region: counted[region] * 100 / len(clients) for region in WEIGHTS}


def told(clients):
    return collections.Counter(client.told for client in clients)


def forget(clients):
    for client in clients:
        client.told = 0


def text(numbers):
    return ", ".join(f"{key}: {value:.1f}" if isinstance(value, float) else f"{key}: {value}" for key, value in numbers.items())


async def main(report):
    check = report.check
    regions = {"a": Region("a", 2), "b": Region("b", 2), "canary": Region("canary", 1)}
    edge = Edge(regions)

    clients = [Client("shop") for _ in range(CLIENTS)]
    statuses = await load(edge, clients, CLIENTS)
    check("each client is told once", set(told(clients)) == {1} and set(statuses) == {"200"}, text(statuses))
    share = shares(clients)
    check("the canary gets its 5 %", 3 <= share["canary"] <= 7, text(share))
    before = {client: client.region() for client in clients}
    forget(clients)

    began = time.monotonic()
    statuses = await load(edge, clients, GETS, [(GETS // 3, regions["a"].cut), (GETS * 2 // 3, regions["a"].start)])
    took = time.monotonic() - began
    check(f"none of {GETS} GETs fails while a region is cut", statuses == {"200": GETS}, f"{text(statuses)} in {took:.1f} s")
    moved = [client for client in clients if before[client] == "a"]
    stayed = [client for client in clients if before[client] != "a"]
    check("who was in that region is told once", set(told(moved)) == {1}, text(told(moved)))
    check("nobody else is told anything", set(told(stayed)) == {0}, text(told(stayed)))
    check("who had to go stays where he went", {client.region() for client in moved} == {"b"}, text(shares(moved)))
    check("the canary keeps its clients", all(c.region() == before[c] for c in stayed), text(shares(stayed)))

    edge.until_usable("shop-a", 2)
    await asyncio.sleep(1.0)
    newcomers = [Client("shop") for _ in range(NEWCOMERS)]
    await load(edge, newcomers, NEWCOMERS)
    share = shares(newcomers)
    of_regions = share["a"] * 100 / (share["a"] + share["b"])
    check("new clients are shared evenly again", 48 <= of_regions <= 52, text(share))

    everybody = [Client(app) for app in APPS for _ in range(CLIENTS // 2)]
    await load(edge, everybody, len(everybody))
    before = {client: client.region() for client in everybody}
    forget(everybody)
    regions["a"].probes({"shop": 404})
    edge.until_usable("shop-a", 0)
    statuses = await load(edge, everybody, len(everybody) * 3)
    movers = [client for client in everybody if before[client] == "a" and client.app == "shop"]
    others = [client for client in everybody if client not in set(movers)]
    check("no GET fails while an application says no", set(statuses) == {"200"}, text(statuses))
    check("its clients there move, each told once", set(told(movers)) == {1} and {c.region() for c in movers} == {"b"},
          text(told(movers)))
    check("nobody else moves", set(told(others)) == {0} and all(c.region() == before[c] for c in others), text(told(others)))


if __name__ == "__main__":
    result = stand.Report("sticky regions")
    try:
        asyncio.run(main(result))
    except (TimeoutError, RuntimeError) as error:
        result.check("the run", False, str(error))
    result.end()
