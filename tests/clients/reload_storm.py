"""Reloads by signal, more than three a second, under load: wrk with 64 keep-alive connections, 20 WebSockets and 20 tcp
sessions, while routes, endpoints, timeouts and one of three listeners change to and fro. Nothing fails, nothing that
stays is closed, and memory does not grow. `--full`: 200 reloads in 60 s in the place of 70 in 21 s.

Then blue/green: all four endpoints swapped for new ones at 2,000 requests a second, and for dead ones, which is refused."""
import asyncio
import json
import os
import re
import signal
import sys
import time

import open_loop
import stand

FULL = "--full" in sys.argv[1:]
RELOADS, SECONDS = (200, 60.0) if FULL else (70, 21.0)
LONG = 20
RATE = 2000
SWAPS = 4

faults = []
served = [0]


async def answer(reader, writer, name):
    """An origin for all: an echo for tcp, HTTP keep-alive, and an echo behind /ws."""
    try:
        rest = b""
        while True:
            while b"\r\n\r\n" not in rest:
                more = await reader.read(4096)
                if not more:
                    return
                rest += more
                if not rest.startswith(b"GET "[:len(rest)]):
                    writer.write(rest)
                    return await relay(reader, writer)
            head, _, rest = rest.partition(b"\r\n\r\n")
            if b"/ws" in head.split(b"\r\n")[0]:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                return await relay(reader, writer)
            served[0] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def relay(reader, writer):
    while more := await reader.read(4096):
        writer.write(more)


async def origins(count, prefix):
    """Servers that answer with their names; their ports."""
    servers = []
    for number in range(count):
        name = f"{prefix}{number}".encode()
        servers.append(await asyncio.start_server(lambda r, w, n=name: answer(r, w, n), "127.0.0.1", 0, backlog=1000))
    return servers, [server.sockets[0].getsockname()[1] for server in servers]


async def long_lived(port, number, opening, opened, over):
    """A connection that must last until the end, and say something now and then."""
    what = f"{'WebSocket' if opening else 'session'} {number}"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if opening:
            writer.write(opening)
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        said = 0
        while not over.is_set():
            message = f"{what} {said};".encode()
            writer.write(message)
            if await asyncio.wait_for(reader.readexactly(len(message)), 10) != message:
                raise ValueError("another answer")
            said += 1
            if said == 1:
                opened.append(what)
            await asyncio.sleep(0.25)
        writer.close()
    except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
        faults.append(f"{what}: {type(error).__name__}: {error}")


class Storm:
    """One process and the two configurations that it goes to and fro between."""

    def __init__(self, ports):
        self.web, self.tcp, self.third, self.admin = (stand.free_port() for _ in range(4))
        self.file = stand.directory() / "plimsoll.toml"
        self.ports = ports
        self.write(0)
        self.process = stand.Process([stand.BINARY, "run", "--config", self.file])
        self.id = self.process.child.pid

    def write(self, turn):
        """Of the endpoints the first stays; routes, the others, timeouts and the third listener change."""
        other = turn % 2
        endpoints = [self.ports[0], self.ports[1 + other]]
        listed = ", ".join(f'"127.0.0.1:{port}"' for port in endpoints)
        third = f"[listener.third]\nbind = [\"127.0.0.1:{self.third}\"]\nprotocol = \"http\"\n" if other else ""
        more = '[[route]]\nname = "more"\npath_prefix = "/more"\npool = "main"\n' if other else ""
        text = (
            f"[process]\nworkers = 2\nwarm_timeout = \"100ms\"\n[admin]\nbind = \"127.0.0.1:{self.admin}\"\n"
            f"[log]\naccess = \"off\"\n"
            f"[listener.web]\nbind = [\"127.0.0.1:{self.web}\"]\nprotocol = \"http\"\n"
            f"[listener.web.timeouts]\nkeep_alive = \"{60 + other}s\"\n"
            f"[listener.raw]\nbind = [\"127.0.0.1:{self.tcp}\"]\nprotocol = \"tcp\"\npool = \"raw\"\n{third}"
            f"{more}[[route]]\nname = \"all\"\npool = \"main\"\n"
            f"[pool.raw]\nendpoints = [\"127.0.0.1:{self.ports[0]}\"]\n"
            f"[pool.main]\nendpoints = [{listed}]\nslow_start = \"0s\"\n"
            f"[pool.main.timeouts]\nresponse_header = \"{20 + other}s\"\n"
        )
        # As an editor does it: never half of a file.
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def memory(self):
        with open(f"/proc/{self.id}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


async def ask(admin, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", admin)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    reply = await asyncio.wait_for(reader.read(), 15)
    writer.close()
    head, _, body = reply.partition(b"\r\n\r\n")
    return head, body


async def generation(admin):
    return json.loads((await ask(admin, "/v1/status"))[1])["generation"]


async def until(what, question, deadline=20.0):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        try:
            if got := await question():
                return got
        except (OSError, ValueError, asyncio.TimeoutError):
            pass
        await asyncio.sleep(0.02)
    raise TimeoutError(f"waited in vain for {what}")


async def ready(admin):
    return (await ask(admin, "/readyz"))[0].startswith(b"HTTP/1.1 200 ")


async def reloads(storm, report):
    """All of them, evenly; memory after the tenth and after the last."""
    begun, tenth = time.monotonic(), 0
    for turn in range(1, RELOADS + 1):
        storm.write(turn)
        os.kill(storm.id, signal.SIGHUP)

        async def published():
            return await generation(storm.admin) > turn
        await until(f"reload {turn}", published)
        if turn == 10:
            tenth = storm.memory()
        await asyncio.sleep(max(0.0, begun + turn * SECONDS / RELOADS - time.monotonic()))
    took = time.monotonic() - begun
    report.check(f"{RELOADS} reloads in {SECONDS:.0f} s", took < SECONDS * 1.2, f"{took:.1f} s")
    return tenth


async def storm_of_reloads(report):
    servers, ports = await origins(3, "o")
    storm = Storm(ports)
    await until("the proxy", lambda: ready(storm.admin))
    over, opened = asyncio.Event(), []
    opening = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    tasks = [asyncio.create_task(long_lived(storm.web, n, opening, opened, over)) for n in range(LONG)]
    tasks += [asyncio.create_task(long_lived(storm.tcp, n, b"", opened, over)) for n in range(LONG)]

    async def all_open():
        return faults or len(opened) == 2 * LONG
    await until("all to be open", all_open)
    wrk = await asyncio.create_subprocess_exec(
        "wrk", "-t1", "-c64", f"-d{SECONDS + 2:.0f}s", f"http://127.0.0.1:{storm.web}/more",
        stdout=asyncio.subprocess.PIPE,
    )
    tenth = await reloads(storm, report)
    text = (await wrk.communicate())[0].decode()
    done = int(re.search(r"(\d+) requests in", text).group(1))
    bad = re.findall(r"Socket errors:.*|Non-2xx.*", text)
    report.check("no request fails", done > 1000 and not bad, f"{done} requests; {bad or 'no errors'}")
    report.check("the endpoints have answered them", served[0] >= done, f"{served[0]} of {done}")

    # What reloads leave behind for a moment is given back; so is what the load held.
    async def small():
        return storm.memory() <= max(tenth * 1.05, tenth + (2 << 20))
    try:
        await until("memory", small)
    except TimeoutError:
        pass
    last = storm.memory()
    report.check("memory", last <= max(tenth * 1.05, tenth + (2 << 20)), f"{tenth >> 10} KiB, then {last >> 10} KiB")
    over.set()
    await asyncio.wait(tasks, timeout=15)
    report.check("nothing long-lived was closed", not faults, "; ".join(faults[:5]) or f"{len(opened)} connections")
    storm.process.stop()
    for server in servers:
        server.close()


def coloured(web, admin, ports):
    listed = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    return (
        f"[process]\nworkers = 2\n[admin]\nbind = \"127.0.0.1:{admin}\"\n[log]\naccess = \"off\"\n"
        f"[listener.web]\nbind = [\"127.0.0.1:{web}\"]\nprotocol = \"http\"\n"
        f"[[route]]\nname = \"all\"\npool = \"main\"\n[pool.main]\nendpoints = [{listed}]\n"
        f"health = {{ check = \"http\", interval = \"500ms\" }}\n"
    )


async def command(*arguments):
    child = await asyncio.create_subprocess_exec(
        stand.BINARY, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(child.communicate(), 40)
    return child.returncode, (out + err).decode()


async def blue_and_green(report):
    blue, blue_ports = await origins(4, "blue")
    green, green_ports = await origins(4, "green")
    web, admin = stand.free_port(), stand.free_port()
    file = stand.directory() / "plimsoll.toml"
    file.write_text(coloured(web, admin, blue_ports))
    process = stand.Process([stand.BINARY, "run", "--config", file])
    await until("the proxy", lambda: ready(admin))
    load = open_loop.Load(web, RATE, lambda _: ("get", open_loop.get("/")))
    running = asyncio.create_task(load.run())
    for swap in range(SWAPS):
        await asyncio.sleep(1)
        ports, name = (green_ports, "green") if swap % 2 == 0 else (blue_ports, "blue")
        file.write_text(coloured(web, admin, ports))
        status, text = await command("reload", "--wait", "--admin", f"127.0.0.1:{admin}")
        seen = len(load.results)
        await asyncio.sleep(0.5)
        late = {r.body[:-1] for r in load.results[seen + RATE // 10:]}
        report.check(f"swapped to {name}", status == 0 and late == {name}, f"{status} {text.strip()} {late}")
    dead = [stand.free_port() for _ in range(4)]
    file.write_text(coloured(web, admin, dead))
    status, text = await command("reload", "--wait", "--admin", f"127.0.0.1:{admin}")
    report.check("dead ones are refused, and why", status == 1 and "main" in text, f"{status} {text.strip()}")
    await asyncio.sleep(1)
    load.over = True
    results = await running
    bad = open_loop.bad(results)
    report.check(f"no request of {len(results)} fails", not bad, str(bad))
    process.stop()
    for server in blue + green:
        server.close()


async def main(report):
    await storm_of_reloads(report)
    await blue_and_green(report)


if __name__ == "__main__":
    result = stand.Report("reload storm")
    try:
        asyncio.run(main(result))
    except (TimeoutError, RuntimeError) as error:
        result.check("the run", False, str(error))
    result.end()
