"""A Node origin that closes idle connections after 5 s, while POSTs come 4.9 to 5.1 s apart on every connection: each is
answered, and none arrives twice."""
import asyncio
import json
import random
import urllib.request

import origins
import stand

CONNECTIONS, ROUNDS = 1000, 5


async def client(port, number, rng, failures):
    """Five POSTs on one connection."""
    await asyncio.sleep(rng.uniform(0, 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for place in range(ROUNDS):
        writer.write(f"POST /once HTTP/1.1\r\nHost: a\r\nX-Once: {number}.{place}\r\nContent-Length: 2\r\n\r\nhi".encode())
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
            status = head.split(" ")[1]
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            if "content-length" in fields:
                await reader.readexactly(int(fields["content-length"]))
            else:
                while size := int((await reader.readline()).split(b";")[0], 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError, ValueError) as error:
            status = repr(error)
        if status != "200":
            failures.append(f"{number}.{place}: {status}")
            break
        if place < ROUNDS - 1:
            await asyncio.sleep(rng.uniform(4.9, 5.1))
    writer.close()


async def play(port):
    rng, failures = random.Random(5), []
    await asyncio.gather(*(client(port, number, rng, failures) for number in range(CONNECTIONS)))
    return failures


def main():
    report = stand.Report("closing origin")
    origin = origins.node_origin("5000")
    proxy = stand.Proxy([origin], access="off")
    failures = asyncio.run(play(proxy.port))
    report.check("every POST is answered", not failures, f"{len(failures)} failed: {failures[:5]}" if failures else "")
    with urllib.request.urlopen(f"http://127.0.0.1:{origin}/once", timeout=10) as answer:
        counts = json.load(answer)
    report.equal("POSTs at the origin", counts, {"all": CONNECTIONS * ROUNDS, "twice": 0})
    report.end()


if __name__ == "__main__":
    main()
