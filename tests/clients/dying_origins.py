"""Two of four origins are killed under load: no GET whose answer is under 1 KiB fails."""
import asyncio
import re
import signal

import stand

CLIENTS, SECONDS = 64, 8


def start_origin(port):
    process = stand.Process(["node", stand.ROOT / "tests" / "node" / "origin.js", str(port)])
    stand.until("Node", lambda: stand.accepts(port))
    return process


async def client(port, end, counts):
    reader = writer = None
    while asyncio.get_running_loop().time() < end:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            length = re.search(rb"\ncontent-length: *(\d+)", head, re.I)
            body = await (reader.readexactly(int(length[1])) if length else reader.read())
            kind = "good" if head.startswith(b"HTTP/1.1 200") and body == b"node" else head[9:12].decode()
            counts[kind] = counts.get(kind, 0) + 1
            if not length or b"connection: close" in head.lower():
                writer.close()
                writer = None
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            counts[type(error).__name__] = counts.get(type(error).__name__, 0) + 1
            writer = None


async def play(port, victims):
    counts = {}
    end = asyncio.get_running_loop().time() + SECONDS
    tasks = [asyncio.create_task(client(port, end, counts)) for _ in range(CLIENTS)]
    for victim in victims:
        await asyncio.sleep(SECONDS / 4)
        victim.child.send_signal(signal.SIGKILL)
    await asyncio.gather(*tasks)
    return counts


def main():
    report = stand.Report("dying origins")
    ports = [stand.free_port() for _ in range(4)]
    processes = [start_origin(port) for port in ports]
    for policy in ("round_robin", "least_requests"):
        proxy = stand.Proxy(ports, access="off", pool=f'balance = "{policy}"')
        counts = asyncio.run(play(proxy.port, processes[:2]))
        bad = {kind: count for kind, count in counts.items() if kind != "good"}
        report.check(f"no GET fails with {policy}", not bad and counts.get("good", 0) > 1000, str(counts))
        proxy.stop()
        processes[:2] = [start_origin(port) for port in ports[:2]]
    report.end()


if __name__ == "__main__":
    main()
