"""Real clients that speak HTTP/2 through Plimsoll to an HTTP/1 origin: curl, nghttp, h2load, httpx."""
import re
import subprocess

import httpx

import origins
import stand

REPORT = stand.Report("http2")


def run(*arguments, data=None, seconds=60):
    done = subprocess.run([str(a) for a in arguments], input=data, capture_output=True, timeout=seconds, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def curl(url):
    body = bytes(range(256)) * 12000
    cases = {
        "GET": ([], None, b"python"),
        "chunked from a pipe (-T -)": (["-X", "POST", "-T", "-"], body, body),
        "Expect: 100-continue": (["-X", "POST", "-H", "Expect: 100-continue", "--data-binary", "@-"], body, body),
        "of known length": (["-X", "POST", "--data-binary", "@-"], body, body),
    }
    for name, (options, data, want) in cases.items():
        code, out, err = run("curl", "-sS", "-m", "30", "--http2-prior-knowledge", *options, f"{url}/echo" if data else url, data=data)
        REPORT.check(f"curl --http2-prior-knowledge {name}", code == 0 and out == want, f"exit {code} {err}")
    code, out, err = run("curl", "-sS", "-I", "-m", "20", "--http2-prior-knowledge", url)
    REPORT.check("curl -I", code == 0 and out.startswith(b"HTTP/2 200"), err or out[:80])
    code, out, err = run("curl", "-sS", "-m", "20", url)
    REPORT.check("curl over HTTP/1.1 on the same port", (code, out) == (0, b"python"), err)
    # In parallel by prior knowledge this version of curl fails before any server; http2_pairs has it under TLS.


def nghttp(url):
    code, out, err = run("nghttp", "-nv", *[f"{url}/{i}" for i in range(20)])
    statuses = re.findall(rb":status: (\d+)", out)
    REPORT.equal("nghttp, 20 at once", (code, statuses), (0, [b"200"] * 20))
    code, out, err = run("nghttp", "-w", "10", "-W", "10", f"{url}/")
    REPORT.check("nghttp with tiny windows", (code, out) == (0, b"python"), err)


def h2load(url):
    for clients, streams in [(1, 1), (8, 100), (100, 10)]:
        code, out, err = run("h2load", "-n", "20000", "-c", str(clients), "-m", str(streams), f"{url}/small")
        done = re.search(rb"requests: (\d+) total.* (\d+) succeeded, (\d+) failed", out)
        good = code == 0 and done and done[2] == b"20000" and done[3] == b"0"
        rate = re.search(rb"finished in .*", out)
        REPORT.check(f"h2load -c {clients} -m {streams}", good, rate[0].decode() if rate else err)


def python(url):
    with httpx.Client(http1=False, http2=True, timeout=20) as client:
        answers = {(a.status_code, a.http_version, a.text) for a in (client.get(f"{url}/{i}") for i in range(50))}
        REPORT.equal("httpx, 50 requests", answers, {(200, "HTTP/2", "python")})
        body = bytes(range(256)) * 4000
        REPORT.check("httpx, a body there and back", client.post(f"{url}/echo", content=body).content == body)


def main():
    fixed = '[[route]]\nname = "small"\npath = "/small"\nrespond = { status = 200, body = "small" }\n'
    proxy = stand.Proxy([origins.python_origin()], listener="h2c = true\n", access="off", text=fixed)
    url = proxy.url
    curl(url)
    nghttp(url)
    h2load(url)
    python(url)
    proxy.stop()
    REPORT.end()


main()
