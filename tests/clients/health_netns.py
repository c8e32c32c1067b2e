"""Health under real losses, kills and stalls: the proxy in one network namespace, its origins in another, nft between.
`health_netns.py [--full] [SCENARIO...]`: short lengths of time or the promised ones; all scenarios or those named."""
import asyncio
import collections
import re
import signal
import sys

import namespaces
import open_loop
import stand

FULL = "--full" in sys.argv[1:]
PORT = 8080
HEALTH = '[pool.main.health]\ncheck = "http"\npath = "/health"\n'
QUICK = HEALTH + 'interval = "200ms"\ntimeout = "1s"\n'
REPORT = stand.Report("health in namespaces")
# What an endpoint, a tier, a pool or a breaker went through; alarms and reloads change no state.
STATES = ("endpoint", "tier", "pool", "breaker")


def length(full, short):
    return full if FULL else short


class Origin:
    """A machine: it can be killed and started again; what reached it is on record over all its lives."""

    def __init__(self, space, place, ports=1, mode=()):
        self.space, self.name, self.address = space, "abcdef"[place], space.addresses[place]
        self.ports, self.mode, self.record = ports, mode, stand.directory() / "record"
        self.start()

    def start(self):
        program = stand.ROOT / "tests" / "clients" / "counting_origin.py"
        arguments = [self.name, self.address, PORT, self.ports, self.record, *self.mode]
        self.process = stand.Process(self.space.inside(sys.executable, program, *arguments))
        stand.until("an origin", lambda: stand.accepts(PORT + self.ports - 1, self.address))

    def signal(self, number):
        self.process.child.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.child.wait()

    def lines(self):
        return self.record.read_text().splitlines()


class Scene:
    """Origins in a namespace, the proxy before them; gone at the end of `with`."""

    def __init__(self, origins, pool="", tiers=None, ports=1, mode=(), **more):
        self.space = namespaces.Namespace(origins)
        self.origins = [Origin(self.space, place, ports, mode) for place in range(origins)]
        listed = [
            f'{{ name = "{origin.name}{port}", address = "{origin.address}:{PORT + port}", tier = {tier} }}'
            for origin, tier in zip(self.origins, tiers or [0] * origins)
            for port in range(ports)
        ]
        self.proxy = stand.Proxy(listed, access="off", pool=pool, **more)
        if "[pool.main.health]" in pool:
            stand.until("the first probes", lambda: set(self.probed()) == {"up"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proxy.stop()
        for origin in self.origins:
            origin.process.stop(signal.SIGKILL)
        self.space.stop()

    async def ask(self, path):
        return await asyncio.to_thread(self.proxy.ask, path)

    async def last_event(self):
        return max((event["id"] for event in await self.ask("/v1/events")), default=0)

    async def changes(self, after):
        """What changed its state since an event, as text."""
        kept = [event for event in await self.ask(f"/v1/events?after={after}") if event["kind"] in STATES]
        return [f"{event['kind']} {event['endpoint']}: {event['to']}, {event['because']}" for event in kept]

    async def pool(self):
        return await self.ask("/v1/pools/main")

    def probed(self):
        return [endpoint["probe"]["state"] for endpoint in self.proxy.ask("/v1/pools/main")["endpoints"]]

    async def comes_to(self, what, ask, seconds):
        end = asyncio.get_running_loop().time() + seconds
        while not ask(await self.pool()):
            if asyncio.get_running_loop().time() > end:
                raise TimeoutError(f"waited in vain for {what}: {await self.pool()}")
            await asyncio.sleep(0.05)


def kept_up(load, name):
    """An open loop that fell behind for good was none."""
    detail = f"{load.started} of {load.due} requests, {load.behind:.2f} s behind at worst"
    REPORT.check(f"{name}: the load came when it should", load.started > 0.95 * load.due, detail)


class Session(asyncio.Protocol):
    """A tcp session: who greeted it, what came back, when it ended."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.who, self.received, self.ended, self.transport = None, 0, None, None
        self.greeted = self.loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.who is None:
            self.who, data = data[:1].decode(), data[2:]
            self.greeted.set_result(True)
        self.received += len(data)

    def connection_lost(self, _):
        self.ended = self.loop.time()
        if not self.greeted.done():
            self.greeted.set_result(False)


async def session(port):
    _, made = await asyncio.get_running_loop().create_connection(Session, "127.0.0.1", port)
    if not await asyncio.wait_for(made.greeted, 10):
        raise ConnectionError("closed before a greeting")
    return made


async def visit(port, wrong):
    try:
        (await session(port)).transport.close()
    except (OSError, TimeoutError) as error:
        wrong.append(repr(error))


async def silent_master():
    """(a) All packets of one of three masters are lost; each has 300 sessions, of which a third speaks every second."""
    pool = 'balance = "round_robin"\n[pool.main.health]\ncheck = "tcp"\n'
    with Scene(3, pool, mode=["tcp"], protocol="tcp") as scene:
        port, loop, wrong, visits = scene.proxy.port, asyncio.get_running_loop(), [], []
        sessions = [made for _ in range(9) for made in await asyncio.gather(*(session(port) for _ in range(100)))]
        shares = collections.Counter(made.who for made in sessions)
        REPORT.equal("a: sessions of each master", dict(shares), {"a": 300, "b": 300, "c": 300})
        scene.space.silence(scene.origins[0].address)
        start = loop.time()
        theirs = [made for made in sessions if made.who == "a"]
        while loop.time() < start + 17 and not (loop.time() > start + 3 and all(made.ended for made in theirs)):
            visits.append(asyncio.create_task(visit(port, wrong)))
            if len(visits) % 10 == 0:
                for made in sessions[::3]:
                    made.transport.write(b"x")
            await asyncio.sleep(0.1)
        await asyncio.gather(*visits)
        took = max((made.ended or start + 99) - start for made in theirs)
        REPORT.check("a: its sessions are closed within 14 s", took <= 14, f"{took:.1f} s")
        others = [made for made in sessions if made.who != "a"]
        before = [made.received for made in others]
        for made in others:
            made.transport.write(b"y")
        await asyncio.sleep(1)
        lost = sum(made.ended is not None or made.received <= old for made, old in zip(others, before))
        REPORT.equal("a: sessions of the others that were cut", lost, 0)
        REPORT.check("a: no new connect fails", not wrong, f"{len(wrong)} of {len(visits)} failed {wrong[:3]}")
        for made in sessions:
            made.transport.abort()


async def dying_origins(name, health):
    """(b) Two of three origins are killed at 2,000 requests a second, one in ten of them a POST. An answer takes 50 ms,
    so that each kill hits some thirty requests that are on their way."""
    seconds = length(60, 8)

    def make(number):
        return ("POST", open_loop.post(str(number))) if number % 10 == 0 else ("GET", open_loop.get("/wait"))

    with Scene(3, health) as scene:
        load = open_loop.Load(scene.proxy.port, 2000, make)
        running = asyncio.create_task(load.run(seconds))
        for victim in scene.origins[:2]:
            await asyncio.sleep(seconds / 4)
            victim.kill()
        results = await running
        kept_up(load, name)
        gets, posts = (open_loop.bad(results, kind) for kind in ("GET", "POST"))
        detail = f"of {len(results)} requests GETs {gets}, POSTs {posts}"
        failed = [r for r in results if r.kind != "POST" and r.status != 200]
        REPORT.check(f"{name}: no GET fails", results and not failed, detail)
        tries = collections.Counter(line for origin in scene.origins for line in origin.lines() if line[0] == "P")
        twice = [line for line, count in tries.items() if count > 1]
        REPORT.check(f"{name}: no POST arrives twice", tries and not twice, f"{len(twice)} of {len(tries)}")


async def dying_origins_unprobed():
    await dying_origins("b without probes", "")


async def dying_origins_probed():
    await dying_origins("b with probes", HEALTH)


async def sick_application():
    """(c) Every origin serves two applications, and one of them is always sick."""
    with Scene(3, HEALTH) as scene:
        before = await scene.last_event()
        load = open_loop.Load(scene.proxy.port, 600, lambda n: ("B", open_loop.get("/b")) if n % 2 else
                              ("A", open_loop.get("/a")))
        results = await load.run(length(20, 4))
        kept_up(load, "c")
        sent = sum(r.kind == "B" for r in results)
        tries = sum(line.startswith("GET /b ") for origin in scene.origins for line in origin.lines())
        REPORT.equal("c: errors on A", open_loop.bad(results, "A"), {})
        REPORT.equal("c: answers of B", open_loop.bad(results, "B"), {503: sent})
        REPORT.equal("c: tries of B", tries, sent)
        REPORT.equal("c: what changed", await scene.changes(before), [])


async def lossy_probes():
    """(d) Of the packets between probes and origins 2 % are lost, each way.

    Only `interval` is shortened, from 2 s to 100 ms, over 60 endpoints. `timeout` stays at its default, 2.5 s, and must:
    whether a probe fails hangs on how many retransmissions fit into it (a SYN is sent again after 1 s and 3 s, data
    after some 200 ms, whatever the interval is), and shortened in proportion, to 125 ms, every lost SYN would be a
    failed probe. The losses are independent of each other, so three probes in a row fail as rarely at 100 ms as at 2 s:
    a probe fails when a SYN or its answer is lost and the second try too, (1 - 0.98^2)^2 = 0.16 %, three in a row four
    times in 10^9. At a loss of 25 % this scenario does see endpoints go down."""
    wanted, endpoints = length(45_000, 3_000), 60
    with Scene(1, HEALTH + 'interval = "100ms"\n', ports=endpoints) as scene:
        ports = f"{PORT}-{PORT + endpoints - 1}"
        before = await scene.last_event()
        loss = "numgen random mod 100 < 2 counter drop"
        scene.space.rules(f"tcp sport {ports} {loss}", f"tcp dport {ports} {loss}")
        first = len(scene.origins[0].lines())
        end = asyncio.get_running_loop().time() + wanted / 100
        while (probes := len(scene.origins[0].lines()) - first) < wanted and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.5)
        listed = namespaces.must(["nft", "list", "ruleset"]) + scene.space.run("nft", "list", "ruleset")
        dropped = [int(count) for count in re.findall(r"packets (\d+)", listed)]
        REPORT.check("d: probes enough, and losses", probes >= wanted and min(dropped) > wanted / 50,
                     f"{probes} probes, packets lost {dropped}")
        REPORT.equal("d: what changed", await scene.changes(before), [])
        REPORT.equal("d: states", set(scene.probed()), {"up"})


async def stopped_proxy():
    """(e) The proxy is stopped under load: all its own deadlines pass, and none of them is the fault of an origin."""
    with Scene(3, QUICK + '[pool.main.timeouts]\nresponse_header = "1s"\n') as scene:
        load = open_loop.Load(scene.proxy.port, 150, lambda n: ("GET", open_loop.get("/wait")))
        running = asyncio.create_task(load.run())
        await asyncio.sleep(1.5)
        before = await scene.last_event()
        scene.proxy.child.send_signal(signal.SIGSTOP)
        await asyncio.sleep(length(10, 4))
        scene.proxy.child.send_signal(signal.SIGCONT)
        await asyncio.sleep(3)
        load.over = True
        results = await running
        REPORT.equal("e: what changed after the stop", await scene.changes(before), [])
        REPORT.equal("e: states after the stop", scene.probed(), ["up"] * 3)
        late = [r for r in results if r.sent > load.elapsed() - 2 and r.status != 200]
        REPORT.check("e: all is well again", not late and len(results) > 300, f"bad in all: {open_loop.bad(results)}")


async def slow_probes():
    """(f) All probes take 4 s, while requests are answered at once: down they are all, and used all the same."""
    seconds = length(60, 12)
    with Scene(3, HEALTH if FULL else QUICK) as scene:
        load = open_loop.Load(scene.proxy.port, 300, lambda n: ("GET", open_loop.get("/")))
        running = asyncio.create_task(load.run())
        await asyncio.sleep(1)
        for origin in scene.origins:
            origin.signal(signal.SIGUSR1)
        await asyncio.sleep(seconds)
        during = await scene.pool()
        for origin in scene.origins:
            origin.signal(signal.SIGUSR2)
        await scene.comes_to("the recovery", lambda pool: pool["usable"] == 3 and not pool["fails_open"], 30)
        await asyncio.sleep(0.5)
        load.over = True
        results = await running
        kept_up(load, "f")
        states = [endpoint["probe"]["state"] for endpoint in during["endpoints"]]
        REPORT.equal("f: while probes are slow", (states, during["fails_open"]), (["cannot be asked"] * 3, True))
        REPORT.equal("f: requests that were not answered", open_loop.bad(results), {})


def tier_zero(results, since, until):
    """The share of tier 0 in a span of time, nothing where nothing was sent."""
    bodies = [r.body for r in results if since <= r.sent < until]
    return sum(body != "d" for body in bodies) / len(bodies) if bodies else None


async def tiers():
    """(g) Three machines of tier 0 and one of tier 1: the former are killed one by one, then come back together."""
    after, ramp, gap = length(60, 4), length(30, 4), length(5, 1.5)
    pool = f'failback = {{ after = "{after}s", ramp = "{ramp}s" }}\n{HEALTH}'
    with Scene(4, pool, tiers=[0, 0, 0, 1]) as scene:
        load = open_loop.Load(scene.proxy.port, 200, lambda n: ("GET", open_loop.get("/")))
        running = asyncio.create_task(load.run())
        await asyncio.sleep(gap)
        for victim in scene.origins[:3]:
            await asyncio.sleep(gap)
            gone = load.elapsed()
            victim.kill()
        await scene.comes_to("the change of tier", lambda pool: pool["serving_tier"] == 1, 20)
        await asyncio.sleep(gap)
        for origin in scene.origins[:3]:
            origin.start()
        back = load.elapsed()
        # Probes are good again, and the ejection for failed connects is over.
        await scene.comes_to("their return", lambda pool: any(e["usable"] for e in pool["endpoints"][:3]), 30)
        seen = load.elapsed()
        await asyncio.sleep(after + ramp + 3)
        load.over = True
        results = await running
        kept_up(load, "g")
        REPORT.equal("g: requests that were not answered", open_loop.bad(results), {})
        REPORT.equal("g: tier 1 before the third is gone", 1 - tier_zero(results, 0, gone), 0)
        REPORT.equal("g: tier 0 from 1 s later on", tier_zero(results, gone + 1, back), 0)
        first = min((r.sent for r in results if r.sent > back and r.body != "d"), default=0) - seen
        REPORT.check("g: nothing goes back before its time", after - 0.5 <= first <= after + 1.5,
                     f"first after {first:.1f} s, held down for {after} s")
        third = ramp / 3
        begins = [seen + after + third * step for step in range(3)]
        steps = [tier_zero(results, begin, begin + third) for begin in begins]
        REPORT.check("g: then by a ramp", steps == sorted(steps) and steps[0] < 0.5 < steps[2] < 1,
                     " ".join(f"{step:.0%}" for step in steps))
        REPORT.equal("g: tier 0 after the ramp", tier_zero(results, seen + after + ramp + 1.5, 1e9), 1)


SCENARIOS = (silent_master, dying_origins_unprobed, dying_origins_probed, sick_application, lossy_probes, stopped_proxy,
             slow_probes, tiers)


async def play(scenario):
    try:
        await scenario()
    except (OSError, TimeoutError, RuntimeError) as error:
        REPORT.check(f"{scenario.__name__} could be played", False, repr(error)[:500])


def main():
    namespaces.enter()
    wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    for scenario in SCENARIOS:
        if not wanted or scenario.__name__ in wanted:
            asyncio.run(play(scenario))
    REPORT.end()


if __name__ == "__main__":
    main()
