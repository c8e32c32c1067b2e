"""Plimsoll as a service of a real systemd, by the units of conf/: told of in time, confined by the unit, watched,
activated by sockets, reloaded, drained. The systemd is this machine's, in namespaces of its own."""
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import guest
import stand

REPORT = stand.Report("systemd")
UNIT = "plimsoll.service"
CONF = stand.ROOT / "conf"
# CAP_NET_BIND_SERVICE alone.
PORTS_ONLY = 1 << 10
BIG = 8 * 1024 * 1024

CONFIG = """
[process]
workers = 2
drain_timeout = "20s"
[log]
access = "/var/log/plimsoll/access.log"
[listener.web]
bind = ["127.0.0.1:80", "127.0.0.2:80"]
[listener.raw]
bind = ["127.0.0.1:81"]
protocol = "tcp"
pool = "raw"
[[route]]
pool = "main"
[pool.main]
endpoints = ["127.0.0.1:9001"]
[pool.main.health]
check = "http"
path = "/health"
[pool.raw]
endpoints = ["127.0.0.1:9001"]
[pool.raw.health]
check = "exec"
command = ["/bin/sh", "-c", "exit 0"]
[[notify]]
exec = ["/bin/sh", "-c", "env >>/var/lib/plimsoll/env"]
"""

# In a real life a forbidden call fails; here it ends the process, so that none goes unnoticed.
STRICT = "[Service]\nSystemCallErrorNumber=kill\n"

ORIGIN = f'''
import http.server, time
class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(3)
        body = b"x" * ({BIG} if self.path == "/big" else 5)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    # All who waited during a restart come at once; by default only five may wait here.
    request_queue_size = 1024
Server(("127.0.0.1", 9001), Origin).serve_forever()
'''

# A connection every 20 ms until the file is there; how each ended.
CLIENT = '''
import collections, json, os, socket, sys, threading, time
ends, threads = collections.Counter(), []
def ask():
    try:
        with socket.create_connection(("127.0.0.1", 80), 15) as s:
            s.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
            answer = b""
            while piece := s.recv(4096):
                answer += piece
        ends["answered" if answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"xxxxx") else repr(answer[:20])] += 1
    except OSError as error:
        ends[type(error).__name__] += 1
while not os.path.exists("/tmp/enough"):
    threads.append(threading.Thread(target=ask))
    threads[-1].start()
    time.sleep(0.02)
for thread in threads:
    thread.join()
print(json.dumps(ends))
'''


# PTRACE_ATTACH stops one thread for as long as its tracer lives.
HOLD = """
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, int(sys.argv[1]), None, None):
    sys.exit(ctypes.get_errno())
time.sleep(60)
"""


class Scene:
    """A guest with an origin and the service of conf/, as `drop_in` and further units change it."""

    def __init__(self, drop_in="", wants=UNIT, units=None):
        files = {
            f"/etc/systemd/system/{UNIT}": (CONF / UNIT).read_text(),
            f"/etc/systemd/system/{UNIT}.d/trial.conf": STRICT + drop_in,
            "/etc/systemd/system/trial.target": f"[Unit]\nWants={wants}\nAfter={wants}\nAllowIsolate=yes\n",
            "/etc/plimsoll/plimsoll.toml": CONFIG,
            "/usr/local/bin/plimsoll": pathlib.Path(stand.BINARY),
            "/usr/local/lib/origin.py": ORIGIN,
            "/usr/local/lib/client.py": CLIENT,
        }
        files |= {f"/etc/systemd/system/{name}": text for name, text in (units or {}).items()}
        self.guest = guest.Guest(files, "trial.target")
        self.origin = self.guest.start(os.path.realpath(sys.executable), "/usr/local/lib/origin.py")
        stand.until("the origin", lambda: self.get("/", 9001) == "xxxxx")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(self.guest.journal(UNIT))
        self.guest.stop()

    def state(self):
        return self.guest.show(UNIT, "ActiveState")

    def serves(self):
        return self.get("/") == "xxxxx"

    def get(self, path, port=80, *more):
        return self.guest.run("curl", "--silent", "--max-time", "10", *more, f"http://127.0.0.1:{port}{path}").stdout

    def main_process(self):
        """The service's main process as this side of the namespace counts it."""
        inside = self.guest.show(UNIT, "MainPID")
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            if re.search(r"^Name:\tplimsoll$", text, re.MULTILINE) and re.search(rf"^NSpid:\t.*\t{inside}$", text, re.MULTILINE):
                return pathlib.Path(status.parent)
        raise RuntimeError(f"the process {inside} is not there: {self.guest.journal(UNIT)}")


def described():
    """What systemd itself says of the unit."""
    analyze = ["systemd-analyze", "--man=no"]
    with Scene() as scene:
        done = scene.guest.run(*analyze, "verify", f"/etc/systemd/system/{UNIT}")
        REPORT.equal("the unit has no fault", (done.returncode, done.stderr), (0, ""))
        done = scene.guest.run("systemd-analyze", "security", "--no-pager", UNIT)
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        REPORT.check("the unit is confined well", level and float(level[1]) <= 2.0, level and level[0])


def started_and_confined():
    with Scene() as scene:
        REPORT.equal("the service is active once it is ready", scene.state(), "active")
        stand.until("the service", scene.serves)
        status = dict(line.split(":\t", 1) for line in (scene.main_process() / "status").read_text().splitlines() if ":\t" in line)
        capabilities = {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
        REPORT.equal("it may open low ports, and nothing else", {int(mask, 16) for mask in capabilities}, {PORTS_ONLY})
        held = (status["NoNewPrivs"], status["Seccomp"], "0" in status["Uid"].split())
        REPORT.equal("no root, no new privileges, a filter of system calls", held, ("1", "2", False))
        stand.until("a line of status with the pools", lambda: "2 pools" in scene.guest.show(UNIT, "StatusText"))
        # Everything that touches the system, with a filter that ends the process.
        for port, what in ((80, "an http"), (81, "a tcp")):
            REPORT.equal(f"{what} listener moves a large body", len(scene.get("/big", port)), BIG)
        log = "/var/log/plimsoll/access.log"
        scene.guest.must("mv", log, f"{log}.1")
        scene.guest.must("systemctl", "kill", "--signal=USR1", "--kill-whom=main", UNIT)
        stand.until("a new access log", lambda: scene.serves() and scene.guest.run("test", "-s", log).returncode == 0)
        REPORT.check("the access log is written and opened again", scene.guest.run("test", "-s", f"{log}.1").returncode == 0)
        told = stand.until("a program told of events", lambda: scene.guest.run("cat", "/var/lib/plimsoll/env").stdout)
        leaked = re.findall(r"^(?:NOTIFY_SOCKET|WATCHDOG|LISTEN)\S*", told, re.MULTILINE)
        REPORT.equal("programs that it starts do not take the manager for theirs", leaked, [])
        probed = json.loads(scene.get("/v1/pools/raw", 9900))["endpoints"][0]["probe"]["state"]
        REPORT.equal("programs of probes run under the filter", probed, "up")
        REPORT.check("metrics are read", "process_resident_memory_bytes" in scene.get("/metrics", 9900))
        REPORT.equal("nothing ended it", scene.guest.show(UNIT, "NRestarts"), "0")


def stuck_worker():
    """One worker's thread is held by a debugger's stop: the process answers still, and systemd starts it again."""
    with Scene("WatchdogSec=3s\nTimeoutAbortSec=2s\n") as scene:
        stand.until("the service", scene.serves)
        time.sleep(4)
        REPORT.equal("turning workers keep the watchdog quiet", scene.guest.show(UNIT, "NRestarts"), "0")
        threads = (scene.main_process() / "task").iterdir()
        worker = next(t for t in threads if (t / "comm").read_text() == "worker-0\n")
        begun = time.monotonic()
        holder = stand.Process([sys.executable, "-c", HOLD, worker.name])
        stand.until("the watchdog", lambda: "Watchdog timeout" in scene.guest.journal(UNIT), 20)
        # A thread whose tracer lives cannot end.
        holder.stop()
        REPORT.check("a stuck worker wakes the watchdog", True, f"after {time.monotonic() - begun:.1f} s")
        stand.until("a restart", lambda: scene.guest.show(UNIT, "NRestarts") == "1" and scene.serves())
        REPORT.check("which brings a restart", True)


def activated_by_sockets():
    socket = (CONF / "plimsoll.socket").read_text()
    socket = re.sub(r"ListenStream=0.0.0.0:80\nListenStream=\[::\]:80", "ListenStream=127.0.0.1:80\nListenStream=[::1]:80", socket)
    units = {"plimsoll-web.socket": socket}
    # Not wanted at the start: the first connection brings it.
    with Scene(wants="plimsoll-web.socket", units=units) as scene:
        REPORT.equal("nothing runs before someone connects", scene.state(), "inactive")
        REPORT.equal("the first connection waits and is answered", scene.get("/", 80, "--ipv4"), "xxxxx")
        REPORT.equal("by its name, a socket stands for an address", scene.get("/", 80, "--globoff", "--resolve", "x:80:[::1]"), "xxxxx")
        told = scene.guest.journal(UNIT)
        REPORT.equal("both sockets are accepted on", told.count("accepting on an inherited socket"), 2)
        client = scene.guest.start(os.path.realpath(sys.executable), "/usr/local/lib/client.py")
        time.sleep(1)
        for _ in range(3):
            scene.guest.must("systemctl", "restart", UNIT)
            time.sleep(0.5)
        scene.guest.must("touch", "/tmp/enough")
        client.child.wait(40)
        ends = json.loads(client.output())
        REPORT.check("three restarts cost no connection", set(ends) == {"answered"} and ends["answered"] > 100, ends)
        scene.guest.must("rm", "/tmp/enough")
        client = scene.guest.start(os.path.realpath(sys.executable), "/usr/local/lib/client.py")
        time.sleep(1)
        scene.guest.must("systemctl", "kill", "--signal=KILL", UNIT)
        stand.until("a restart", lambda: scene.guest.show(UNIT, "NRestarts") == "1" and scene.state() == "active")
        time.sleep(0.5)
        scene.guest.must("touch", "/tmp/enough")
        client.child.wait(40)
        ends = json.loads(client.output())
        # What the dead process had accepted is lost with it; a request takes a few milliseconds.
        lost = sum(ends.values()) - ends["answered"]
        REPORT.check("kill -9 refuses nobody", not ends.get("ConnectionRefusedError") and lost <= 3, ends)


def reloaded():
    with Scene() as scene:
        stand.until("the service", scene.serves)
        path = "/etc/plimsoll/plimsoll.toml"
        added = '[pool.more]\nendpoints = ["127.0.0.1:9001"]\n'
        scene.guest.write(path, CONFIG + added)
        done = scene.guest.run("systemctl", "reload", UNIT)
        told = scene.guest.show(UNIT, "StatusText")
        REPORT.check("a reload is done when the command is", done.returncode == 0 and "3 pools" in told, done.stderr + told)
        scene.guest.write(path, CONFIG + added + 'wieght = 3\n')
        done = scene.guest.run("systemctl", "reload", UNIT)
        REPORT.check("a refused one fails", done.returncode != 0)
        told = scene.guest.journal(UNIT)
        place = re.search(r"plimsoll\.toml:\d+:\d+", told)
        REPORT.check("and the journal says where and why", place and "wieght" in told, place[0] if place else told)
        told = stand.until("the status", lambda: "refused" in (text := scene.guest.show(UNIT, "StatusText")) and text)
        held = (scene.state(), scene.serves(), scene.guest.show(UNIT, "NRestarts"))
        REPORT.equal("what ran runs on", held, ("active", True, "0"))
        scene.guest.write(path, CONFIG)
        scene.guest.must("systemctl", "kill", "--signal=HUP", "--kill-whom=main", UNIT)
        stand.until("a reload by a signal", lambda: "2 pools" in scene.guest.show(UNIT, "StatusText"))
        REPORT.equal("a signal reloads too, and it is active again", scene.state(), "active")


def upgraded():
    """The program is replaced twice while clients connect: systemd follows its main process to the new one."""
    with Scene() as scene:
        stand.until("the service", scene.serves)
        client = scene.guest.start(os.path.realpath(sys.executable), "/usr/local/lib/client.py")
        time.sleep(1)
        pids = [scene.guest.show(UNIT, "MainPID")]
        for turn in ("an upgrade", "another one"):
            done = scene.guest.run("/usr/local/bin/plimsoll", "upgrade")
            said = re.search(r"process (\d+) .* has taken over from (\d+)", done.stdout)
            REPORT.check(f"{turn} is done", done.returncode == 0 and said and said[2] == pids[-1], done.stdout + done.stderr)
            followed = lambda: said and scene.guest.show(UNIT, "MainPID") == said[1]
            REPORT.check(f"after {turn} the main process is the new one", stand.until("the new main process", followed))
            pids.append(said[1])
            stand.until("the old process to end", lambda: scene.guest.run("test", "-d", f"/proc/{pids[-2]}").returncode)
        told = scene.guest.run("systemctl", "status", "--no-pager", "--lines=0", UNIT).stdout
        REPORT.check("systemctl status shows it", f"Main PID: {pids[-1]}" in told and "active (running)" in told, told)
        REPORT.equal("all are different processes, and none was started again", (len(set(pids)), scene.guest.show(UNIT, "NRestarts")), (3, "0"))
        scene.guest.must("touch", "/tmp/enough")
        client.child.wait(40)
        ends = json.loads(client.output())
        REPORT.check("two upgrades cost no connection", set(ends) == {"answered"} and ends["answered"] > 50, ends)
        stand.until("a status of the new process", lambda: "2 pools" in scene.guest.show(UNIT, "StatusText"))
        done = scene.guest.run("systemctl", "reload", UNIT)
        REPORT.check("the new process is reloaded by systemctl", done.returncode == 0, done.stderr)
        answer = scene.guest.start("curl", "--silent", "http://127.0.0.1/slow")
        stand.until("a request in flight", lambda: json.loads(scene.get("/v1/pools/main", 9900))["endpoints"][0]["in_flight"])
        scene.guest.must("systemctl", "stop", UNIT)
        answer.child.wait(10)
        REPORT.equal("and stopped, once what is in flight is answered", answer.output(), "xxxxx")
        ended = (scene.state(), scene.guest.show(UNIT, "Result"))
        REPORT.equal("which is a clean stop", ended, ("inactive", "success"))


def drained():
    """The unit's time is far too short for the drain, which asks for more."""
    with Scene("TimeoutStopSec=1s\n") as scene:
        stand.until("the service", scene.serves)
        answer = scene.guest.start("curl", "--silent", "http://127.0.0.1/slow")
        stand.until("a request in flight", lambda: json.loads(scene.get("/v1/pools/main", 9900))["endpoints"][0]["in_flight"])
        begun = time.monotonic()
        scene.guest.must("systemctl", "stop", UNIT)
        took = time.monotonic() - begun
        answer.child.wait(10)
        REPORT.equal("what is in flight is answered", answer.output(), "xxxxx")
        ended = (scene.state(), scene.guest.show(UNIT, "Result"))
        REPORT.check("the stop is clean", ended == ("inactive", "success") and took < 10, f"{ended} after {took:.1f} s")
        told = scene.guest.journal(UNIT)
        REPORT.check("the log says how many were cut", "stopped cut=0" in told, "" if "stopped cut=0" in told else told)


if __name__ == "__main__":
    for scenario in (described, started_and_confined, stuck_worker, activated_by_sockets, reloaded, upgraded, drained):
        try:
            scenario()
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
            REPORT.check(scenario.__name__, False, repr(error))
    REPORT.end()
