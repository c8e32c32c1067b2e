"""A pool of DNS servers behind one address, asked by dig: three of Debian's unbound over UDP, and over TCP for what is too
large. One is killed, one comes back, the configuration is loaded again meanwhile: no question goes without its answer,
although nobody asks twice."""
import collections
import concurrent.futures
import os
import re
import signal
import subprocess
import time

import stand

ZONE = "pool.internal"
LARGE = 4000


class Server(stand.Process):
    """A DNS server that answers with its own name."""

    def __init__(self, name, address, port):
        self.name, self.at, self.folder = name, f"{address}:{port}", stand.directory()
        config = self.folder / "unbound.conf"
        text = "".join(f' "{part * 200}"' for part in "abcdefghijklmnopqrst")
        config.write_text(
            f'server:\n  interface: {address}\n  port: {port}\n  access-control: 127.0.0.0/8 allow\n  do-daemonize: no\n'
            f'  username: ""\n  chroot: ""\n  directory: "{self.folder}"\n  pidfile: "{self.folder}/pid"\n'
            '  use-syslog: no\n  logfile: ""\n  num-threads: 1\n  max-udp-size: 4096\n  edns-buffer-size: 4096\n'
            f'  local-zone: "{ZONE}." static\n  local-data: "who.{ZONE}. 1 IN TXT {name}"\n'
            f"  local-data: 'large.{ZONE}. 1 IN TXT{text}'\n"
        )
        super().__init__(["/usr/sbin/unbound", "-d", "-c", config])
        stand.until(f"unbound {name}", lambda: stand.accepts(port, address))


def dig(port, name, *more):
    """One question, asked once; what was answered, or why not."""
    asked = subprocess.run(
        ["dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=3", *more, f"{name}.{ZONE}", "TXT"],
        capture_output=True, text=True, timeout=20, check=False,
    )
    answer = re.search(r"ANSWER SECTION:\n\S+\s+\d+\s+IN\s+TXT\s+(.*)", asked.stdout)
    return answer[1].strip('"') if answer else f"nothing: {asked.stdout[-200:]}{asked.stderr}"


def ask_all(port, count):
    with concurrent.futures.ThreadPoolExecutor(8) as several:
        return collections.Counter(several.map(lambda _: dig(port, "who"), range(count)))


def main():
    report = stand.Report("udp_dns")
    backend = stand.free_port("127.8.0.1")
    servers = {name: Server(name, f"127.8.0.{place}", backend) for place, name in enumerate("abc", 1)}
    where = [f'"{server.at}"' for server in servers.values()]
    health = (
        '[pool.main.health]\ncheck = "udp"\ninterval = "200ms"\ntimeout = "1s"\n'
        # A question for the root's NS.
        'send = "\\u0012\\u0034\\u0001\\u0000\\u0000\\u0001\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0002\\u0000\\u0001"\n'
        'expect = { regex = "(?s-u)^\\\\x12\\\\x34" }\n'
    )
    proxy = stand.Proxy(
        where, protocol="udp", pool='balance = "round_robin"',
        listener='limits = { udp_answers = 1 }\ntimeouts = { udp_idle = "5s" }',
        text=health + '[listener.large]\nbind = ["127.0.0.1:@PORT@"]\nprotocol = "tcp"\npool = "main"\n',
    )
    port = proxy.port
    start = time.monotonic()
    seen = ask_all(port, 60)
    report.equal("every question is answered", sum(seen[name] for name in "abc"), 60)
    report.check("by each of the three", all(seen[name] >= 10 for name in "abc"), dict(seen))

    large = dig(port, "large", "+notcp", "+ignore", "+noedns")
    report.check("without EDNS a large answer is cut by the server", large.startswith("nothing"), large[:60])
    large = dig(port, "large", "+bufsize=4096", "+notcp", "+ignore")
    report.check("a large answer", len(large) > 1000 or large.startswith("nothing"), f"{len(large)} bytes")
    large = dig(port, "large")
    report.check("an answer that UDP cannot bring comes over TCP by the same pool", len(large) > LARGE, f"{len(large)} bytes")

    servers["b"].stop(signal.SIGKILL)
    seen = ask_all(port, 60)
    report.equal("one is killed: every question is answered", seen["a"] + seen["c"], 60)
    servers["b"] = Server("b", "127.8.0.2", backend)
    stand.until("b to be used again", lambda: dig(port, "who") == "b", 20)

    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        asked = beside.submit(ask_all, port, 120)
        for _ in range(5):
            os.kill(proxy.child.pid, signal.SIGHUP)
            time.sleep(0.1)
        seen = asked.result()
    report.equal("reloads lose no question", sum(seen[name] for name in "abc"), 120)
    records = [record for record in proxy.records() if record["protocol"] == "UDP"]
    ends = collections.Counter(record["end"] for record in records)
    report.check("each question is a session that ends with its answer", set(ends) == {"done"}, dict(ends))
    report.check("in time", time.monotonic() - start < 40, f"{time.monotonic() - start:.0f} s")
    report.end()


if __name__ == "__main__":
    main()
