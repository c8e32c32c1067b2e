"""Real clients through Plimsoll to real origins: curl, wrk, ab, Python's http.client and aiohttp, Node's fetch and ws,
Java's HttpClient; nginx, Python and Node behind."""
import asyncio
import hashlib
import http.client
import pathlib
import re
import subprocess

import aiohttp

import origins
import stand

REPORT = stand.Report("real clients")
HERE = pathlib.Path(__file__).parent


def run(*arguments, data=None, seconds=120):
    done = subprocess.run([str(a) for a in arguments], input=data, capture_output=True, timeout=seconds, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def curl(url):
    body = bytes(range(256)) * 12000
    cases = {
        "GET": ([], None, None),
        "--http2 in the clear": (["--http2"], None, None),
        "--http1.0": (["--http1.0"], None, None),
        "chunked from a pipe (-T -)": (["-X", "POST", "-T", "-"], body, body),
        "chunked with h2c (--http2 -T -)": (["--http2", "-X", "POST", "-T", "-"], body, body),
        "Expect: 100-continue": (["-X", "POST", "-H", "Expect: 100-continue", "--data-binary", "@-"], body, body),
        "no Expect": (["-X", "POST", "-H", "Expect:", "--data-binary", "@-"], body, body),
    }
    for name, (options, data, want) in cases.items():
        code, out, err = run("curl", "-sS", "-m", "30", *options, f"{url}/echo", data=data)
        REPORT.check(f"curl {name}", code == 0 and out == (want if want is not None else b"python"), f"exit {code} {err}")
    code, out, err = run("curl", "-sS", "-I", "-m", "20", url)
    REPORT.check("curl -I", code == 0 and out.startswith(b"HTTP/1.1 200"), err or out[:80])
    code, out, err = run("curl", "-sS", "-m", "30", "--parallel", "--parallel-max", "50", f"{url}/[1-300]")
    REPORT.equal("curl, 300 in parallel", (code, out), (0, b"python" * 300))


def load(url):
    code, out, err = run("wrk", "-t2", "-c100", "-d4s", f"{url}/small")
    text = out.decode()
    quiet = "Non-2xx" not in text and "Socket errors" not in text
    REPORT.check("wrk, 100 connections", code == 0 and quiet, " ".join(re.findall(r"Requests/sec: +\S+", text)) or err)
    for name, options in {"ab -k (HTTP/1.0 keep-alive)": ["-k"], "ab (HTTP/1.0)": []}.items():
        code, out, err = run("ab", "-q", "-n", "5000", "-c", "50", *options, f"{url}/small")
        text = out.decode()
        failed = re.search(r"Failed requests: +(\d+)", text)
        kept = re.search(r"Keep-Alive requests: +(\d+)", text)
        good = code == 0 and failed and failed[1] == "0" and "Non-2xx" not in text
        REPORT.check(name, good and (not options or int(kept[1]) > 4000), err or text[-600:] if not good else "")


def http_client(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    texts = set()
    for number in range(50):
        if number % 2:
            connection.request("POST", "/echo", body=b"x" * number)
            texts.add(connection.getresponse().read() == b"x" * number)
        else:
            connection.request("GET", "/")
            texts.add(connection.getresponse().read() == b"python")
    REPORT.equal("http.client, 50 on one connection", texts, {True})
    connection.request("POST", "/echo", body=iter([b"one ", b"two ", b"three"]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    REPORT.equal("http.client, chunked", connection.getresponse().read(), b"one two three")
    connection.close()


async def aio(url):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:
        async def one(number):
            if number % 3:
                async with session.post(f"{url}/echo", data=b"y" * number * 50) as answer:
                    return await answer.read() == b"y" * number * 50
            async with session.get(url) as answer:
                return await answer.read() == b"python"

        REPORT.equal("aiohttp, 500 at once", set(await asyncio.gather(*map(one, range(500)))), {True})


def through_node():
    proxy = stand.Proxy([origins.node_origin()], access="off")
    code, out, err = run("node", stand.ROOT / "tests" / "node" / "client.js", proxy.url)
    print(out.decode(), end="")
    REPORT.check("node fetch and ws", code == 0, err)
    code, out, err = run("java", HERE / "JavaClient.java", proxy.url)
    print(out.decode(), end="")
    REPORT.check("java HttpClient", code == 0, err)


def main():
    proxy = stand.Proxy([origins.python_origin()], access="off")
    curl(proxy.url)
    http_client(proxy.port)
    asyncio.run(aio(proxy.url))
    nginx = stand.Proxy([origins.nginx_origin()], access="off")
    load(nginx.url)
    code, out, err = run("curl", "-sS", "-m", "30", f"{nginx.url}/big/16")
    want = hashlib.sha256(origins.BLOCK * 16).hexdigest()
    REPORT.check("16 MiB from nginx", code == 0 and hashlib.sha256(out).hexdigest() == want, err)
    through_node()
    REPORT.end()


if __name__ == "__main__":
    main()
