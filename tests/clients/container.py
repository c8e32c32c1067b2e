"""Plimsoll as process 1 of a PID namespace, as it is in a container: on what the image holds and as its user, stopped by
signals, asked by its health command, and a good parent for orphans. What needs an engine (the build, the image's own
settings) is not tried here."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

import stand

REPORT = stand.Report("container")
PROGRAMS = """
interval = "100ms"
timeout = "5s"
command = ["/bin/sh", "-c", "sleep 0.3 & setsid sleep 0.3 & exit 0"]
"""


def config(admin, web, endpoint, more="", drain="5s"):
    return (
        f'[process]\nworkers = 2\ndrain_timeout = "{drain}"\n'
        f'[admin]\nbind = "127.0.0.1:{admin}"\n[listener.web]\nbind = ["127.0.0.1:{web}"]\n[[route]]\npool = "main"\n'
        f'[pool.main]\nendpoints = ["127.0.0.1:{endpoint}"]\n{more}\n'
    )


class First(stand.Process):
    """The binary as process 1 of a namespace, with the image as its root or with the machine's."""

    def __init__(self, text, image=None):
        self.admin, self.web = stand.free_port(), stand.free_port()
        text = text(self.admin, self.web)
        binary, file = stand.BINARY, stand.directory() / "plimsoll.toml"
        into = ["--mount-proc"]
        if image:
            binary, file = "/usr/local/bin/plimsoll", image / "etc/plimsoll/plimsoll.toml"
            into = [f"--root={image}", "--setuid=900", "--setgid=900"]
        file.write_text(text)
        path = "/etc/plimsoll/plimsoll.toml" if image else file
        super().__init__(["unshare", "--pid", "--fork", "--kill-child", *into, binary, "run", "--config", path])
        # Not only its admin API: that is opened before the listeners, and accepts while they are not there yet.
        stand.until("the proxy", self.is_ready)
        children = f"/proc/{self.child.pid}/task/{self.child.pid}/children"
        self.first = int(pathlib.Path(children).read_text())
        REPORT.check("it is process 1", self.status("NSpid").split()[-1] == "1")

    def status(self, name):
        text = pathlib.Path(f"/proc/{self.first}/status").read_text()
        return re.search(rf"^{name}:\t(.*)$", text, re.MULTILINE)[1]

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def pool(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/v1/pools/main", timeout=5) as answer:
            return json.load(answer)

    def signal(self, number):
        os.kill(self.first, number)

    def zombies(self):
        threads = pathlib.Path(f"/proc/{self.first}/task").iterdir()
        children = [thread / "children" for thread in threads]
        states = []
        for child in " ".join(path.read_text() for path in children).split():
            try:
                states.append(re.search(r"\) (\w)", pathlib.Path(f"/proc/{child}/stat").read_text())[1])
            except OSError:
                pass
        return states.count("Z")


def slow_origin():
    """Answers each connection after a second."""
    program = (
        "import http.server, sys, time\n"
        "class Origin(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        time.sleep(float(self.path[1:] or 0))\n"
        "        self.send_response(200)\n        self.end_headers()\n        self.wfile.write(b'ok')\n"
        "    def log_message(self, *_):\n        pass\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Origin).serve_forever()\n"
    )
    port = stand.free_port()
    process = stand.Process([sys.executable, "-c", program, port])
    stand.until("the origin", lambda: stand.accepts(port))
    return process, port


def image():
    folder = stand.directory() / "image"
    subprocess.run([stand.ROOT / "container" / "assemble", stand.BINARY, folder], check=True)
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    return folder


def stopped(port):
    """The image as it is: no shell, no root; TERM drains, the second one ends it."""
    root = image()
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    strays = [name for name in files if not re.match(r"(usr/local/bin/plimsoll$|etc/|lib|usr/lib)", name)]
    REPORT.equal("the image holds the binary, its libraries and a few files of /etc", strays, [])
    first = First(lambda admin, web: config(admin, web, port), root)
    REPORT.equal("it is no root", set(first.status("Uid").split() + first.status("Gid").split()), {"900"})
    ask = ["chroot", "--userspec=900:900", root, "/usr/local/bin/plimsoll", "status", "--admin", f"127.0.0.1:{first.admin}", "--check"]
    for what in ("live", "local", "ready"):
        done = subprocess.run([*ask, what], capture_output=True, text=True, check=False)
        REPORT.equal(f"its health command says that it is {what}", done.returncode, 0)
    curl = subprocess.Popen(["curl", "--silent", f"http://127.0.0.1:{first.web}/1"], stdout=subprocess.PIPE)
    stand.until("a request in flight", lambda: first.pool()["endpoints"][0]["in_flight"])
    first.signal(signal.SIGTERM)
    stand.until("a drain", lambda: subprocess.run([*ask, "local"], capture_output=True, check=False).returncode == 1)
    REPORT.equal("what is in flight is answered", curl.communicate(timeout=10)[0], b"ok")
    REPORT.equal("then it ends well", first.child.wait(10), 0)

    first = First(lambda admin, web: config(admin, web, port, drain="60s"), root)
    curl = subprocess.Popen(["curl", "--silent", f"http://127.0.0.1:{first.web}/30"], stdout=subprocess.DEVNULL)
    stand.until("a request in flight", lambda: first.pool()["endpoints"][0]["in_flight"])
    first.signal(signal.SIGTERM)
    stand.until("a drain", lambda: "stopping immediate=false" in first.errors())
    begun = time.monotonic()
    first.signal(signal.SIGTERM)
    first.child.wait(10)
    curl.wait(10)
    told = re.search(r"stopped cut=(\d+)", first.errors())
    REPORT.check("a second signal ends it at once, and it says what it cut", told and told[1] == "1" and time.monotonic() - begun < 4, told and told[0])


def orphans(port):
    """Each probe leaves two processes behind, one in a session of its own, which end later."""
    health = f'[pool.main.health]\ncheck = "exec"\n{PROGRAMS}'
    first = First(lambda admin, web: config(admin, web, port, health))
    most, end = 0, time.monotonic() + 6
    while time.monotonic() < end:
        most = max(most, first.zombies())
        time.sleep(0.05)
    # About sixty probes by now; what has ended within the last second or so may wait.
    REPORT.check("orphans are waited for", 0 < most < 40, f"at most {most} zombies at once")
    last = first.pool()["endpoints"][0]["probe"]["last"]["text"]
    REPORT.equal("and the programs of probes are left to those who ask them", last, "exit status 0")
    first.signal(signal.SIGTERM)
    REPORT.equal("it ends well", first.child.wait(10), 0)


if __name__ == "__main__":
    origin, origin_port = slow_origin()
    stopped(origin_port)
    orphans(origin_port)
    REPORT.end()
