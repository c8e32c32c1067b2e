"""What the client suites stand on: free ports, the release binary with a configuration of its own, memory, and a report
whose exit status tells the truth."""
import atexit
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("PLIMSOLL_TEST_BINARY", str(ROOT / "target" / "release" / "plimsoll"))
DEADLINE = 30.0


def free_port(host="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def until(what, ask, deadline=DEADLINE):
    """Asks again and again until the answer is true."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.02)
    raise TimeoutError(f"waited in vain for {what}")


def accepts(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


def directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix="plimsoll-clients-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


class Process:
    """A child that is ended with us; what it writes is kept in files."""

    def __init__(self, arguments, **more):
        self.files = directory()
        self.out = open(self.files / "out", "wb")
        self.err = open(self.files / "err", "wb")
        self.child = subprocess.Popen(
            [str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, **more
        )
        atexit.register(self.stop)

    def stop(self, how=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def output(self):
        return (self.files / "out").read_text(errors="replace")

    def errors(self):
        return (self.files / "err").read_text(errors="replace")


class Proxy(Process):
    """The release binary: one listener, one pool, and what a suite adds. An endpoint is a port of this machine, or
    what stands in the configuration. `@PORT@` in the text is the listener's port."""

    def __init__(self, endpoints, protocol="http", access="stdout", pool="", text="", listener="", process=""):
        self.port, self.admin = free_port(), free_port()
        route = '[[route]]\nname = "all"\npool = "main"\n' if protocol == "http" else ""
        listener += '\npool = "main"\n' if protocol in ("tcp", "udp") else ""
        listed = ", ".join(f'"127.0.0.1:{port}"' if isinstance(port, int) else port for port in endpoints)
        config = (
            f"[process]\n{process}\n[admin]\nbind = \"127.0.0.1:{self.admin}\"\n"
            f"[log]\nformat = \"json\"\naccess = \"{access}\"\n"
            f"[listener.web]\nbind = [\"127.0.0.1:{self.port}\"]\nprotocol = \"{protocol}\"\n{listener}\n"
            f"{route}[pool.main]\nendpoints = [{listed}]\n{pool}\n{text.replace('@PORT@', str(self.port))}\n"
        )
        file = directory() / "plimsoll.toml"
        file.write_text(config)
        super().__init__([BINARY, "run", "--config", file])
        until("the proxy to be ready", self.ready)
        self.url = f"http://127.0.0.1:{self.port}"

    def ready(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"the proxy ended: {self.errors()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def records(self):
        """Access-log records so far."""
        lines = self.output().split("\n")
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def ask(self, path):
        """What the admin API says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
            return json.load(answer)

    def memory(self):
        """Anonymous resident memory in bytes: what user space holds, not the binary's own pages."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024


class Haproxy(Process):
    """Debian's HAProxy in front of one HTTP endpoint."""

    def __init__(self, endpoint):
        self.port = free_port()
        config = directory() / "haproxy.cfg"
        config.write_text(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n"
            f"  timeout http-request 10s\nfrontend f\n  bind 127.0.0.1:{self.port}\n  default_backend b\n"
            f"backend b\n  server s 127.0.0.1:{endpoint}\n"
        )
        super().__init__(["/usr/sbin/haproxy", "-db", "-f", config])
        until("HAProxy", lambda: accepts(self.port))


class Report:
    """Counts what held and what did not; `end` exits with the truth."""

    def __init__(self, suite):
        self.suite, self.passed, self.failed = suite, 0, 0
        self.lock = threading.Lock()

    def check(self, name, holds, detail=""):
        with self.lock:
            if holds:
                self.passed += 1
                print(f"ok   {self.suite}: {name}" + (f" ({detail})" if detail else ""), flush=True)
            else:
                self.failed += 1
                print(f"FAIL {self.suite}: {name}: {detail}", flush=True)
        return holds

    def equal(self, name, got, want):
        return self.check(name, got == want, "" if got == want else f"got {got!r}, want {want!r}")

    def end(self):
        print(f"{self.suite}: {self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)
