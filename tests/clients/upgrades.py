"""Ten upgrades in a row while 1,000 tcp sessions and 100 WebSockets go on and a client opens a connection for each of its
requests: nothing is refused, reset or cut."""
import asyncio
import base64
import json
import os
import pathlib
import resource
import signal
import time

import stand

UPGRADES = 10
SESSIONS = 1000
WEBSOCKETS = 100
# Each session says something this often, in the old processes too.
EVERY = 1.0

counts = {"requests": 0, "echoes": 0, "frames": 0}
faults = []


def fault(what, error):
    faults.append(f"{what}: {type(error).__name__}: {error}")


async def echo(reader, writer):
    """The origin: a tcp echo, or HTTP with a WebSocket behind /ws."""
    try:
        first = await reader.read(4096)
        if first.startswith(b"GET "):
            while b"\r\n\r\n" not in first:
                first += await reader.read(4096)
            if b"upgrade: websocket" not in first.lower():
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            first = b""
        while True:
            if first:
                writer.write(first)
            first = await reader.read(4096)
            if not first:
                return
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def session(port, number, opened, over):
    """A tcp session that must never end by itself."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = 0
        while not over.is_set():
            message = f"{number}/{said};".encode()
            writer.write(message)
            if await asyncio.wait_for(reader.readexactly(len(message)), 15) != message:
                raise ValueError("another answer")
            counts["echoes"] += 1
            said += 1
            if said == 1:
                opened.append(number)
            await asyncio.sleep(EVERY)
        writer.close()
    except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
        fault(f"session {number}", error)


async def websocket(port, number, opened, over):
    """A WebSocket; the echo gives each (masked) frame back as it came."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ValueError(head)
        opened.append(number)
        while not over.is_set():
            text = f"frame {number}".encode()
            mask = os.urandom(4)
            frame = bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text))
            writer.write(frame)
            if await asyncio.wait_for(reader.readexactly(len(frame)), 15) != frame:
                raise ValueError("another frame")
            counts["frames"] += 1
            await asyncio.sleep(EVERY)
        writer.close()
    except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
        fault(f"WebSocket {number}", error)


async def requests(port, over):
    """A connection for each request, one after the other."""
    while not over.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 15)
            writer.close()
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"ok"):
                raise ValueError(answer)
            counts["requests"] += 1
        except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
            fault("request", error)


async def ask(admin, path):
    """A page of the admin API; nothing when the connection fell between two processes."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", admin)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 15)
        writer.close()
        return json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError, asyncio.TimeoutError):
        return None


async def upgrade(admin, processes):
    command = await asyncio.create_subprocess_exec(
        stand.BINARY, "upgrade", "--admin", f"127.0.0.1:{admin}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(command.communicate(), 70)
    if command.returncode != 0:
        raise RuntimeError(err.decode())
    processes.append(int(out.split()[1]))


async def until(what, ask_it, deadline=40.0):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        answer = await ask_it()
        if answer:
            return answer
        await asyncio.sleep(0.1)
    raise TimeoutError(f"waited in vain for {what}")


async def main(report):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    origin = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=2000)
    tcp = stand.free_port()
    port = origin.sockets[0].getsockname()[1]
    # A pool of their own, so that neither takes the places of the other's limit.
    text = (
        f'[listener.raw]\nbind = ["127.0.0.1:{tcp}"]\nprotocol = "tcp"\npool = "raw"\n'
        f'[pool.raw]\nendpoints = ["127.0.0.1:{port}"]\n'
    )
    loop = asyncio.get_running_loop()
    pool = 'health = { check = "tcp", interval = "500ms" }\n'
    start = lambda: stand.Proxy([port], access="off", pool=pool, text=text, process="workers = 2\n")
    proxy = await loop.run_in_executor(None, start)
    processes, over, opened, sockets = [proxy.child.pid], asyncio.Event(), [], []
    tasks = []
    try:
        for number in range(SESSIONS):
            tasks.append(asyncio.create_task(session(tcp, number, opened, over)))
            if number % 50 == 49:
                await asyncio.sleep(0.02)
        tasks += [asyncio.create_task(websocket(proxy.port, n, sockets, over)) for n in range(WEBSOCKETS)]

        async def all_open():
            return faults or (len(opened) == SESSIONS and len(sockets) == WEBSOCKETS)
        await until("all to be open", all_open)
        report.equal("sessions", len(opened), SESSIONS)
        report.equal("WebSockets", len(sockets), WEBSOCKETS)
        tasks.append(asyncio.create_task(requests(proxy.port, over)))
        begun = time.monotonic()
        for _ in range(UPGRADES):
            before = counts["requests"]
            await upgrade(proxy.admin, processes)
            await asyncio.sleep(0.5)
            report.check("requests go on", counts["requests"] > before, f"{counts['requests'] - before} of them")
        took = time.monotonic() - begun
        report.equal("processes, each another one", len(set(processes)), UPGRADES + 1)
        status = await until("a status", lambda: ask(proxy.admin, "/v1/status"))
        report.equal("the newest answers", status["pid"], processes[-1])

        async def listed():
            status = await ask(proxy.admin, "/v1/status")
            old = {one["pid"]: one["connections"] for one in status["old_processes"]} if status else {}
            return old if old.get(processes[0], 0) >= SESSIONS + WEBSOCKETS else None
        old = await until("the first process to be listed with what it has", listed)
        report.check("the first process is listed ten upgrades later", processes[0] in old, f"{old}")
        # Everybody says something once more, in the process that took them in.
        echoes = counts["echoes"]

        async def again():
            return faults or counts["echoes"] >= echoes + 2 * SESSIONS
        await until("every session to speak again", again)
        over.set()
        await asyncio.wait(tasks, timeout=20)

        async def gone():
            status = await ask(proxy.admin, "/v1/status")
            return status is not None and not status["old_processes"]
        await until("the old processes to end with their connections", gone)
        report.check("nothing refused, reset or cut", not faults, "; ".join(faults[:5]) or f"{counts}, {took:.1f} s")
        ended = [pid for pid in processes[:-1] if running(pid)]
        report.equal("old processes that run on", ended, [])
    finally:
        over.set()
        for pid in processes[1:]:
            if running(pid):
                os.kill(pid, signal.SIGKILL)
        origin.close()


def running(pid):
    """Whether it is there and is not only waited for."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    result = stand.Report("upgrades")
    try:
        asyncio.run(main(result))
    except (TimeoutError, RuntimeError) as error:
        result.check("the run", False, str(error))
    result.end()
