"""HAProxy as Debian has it, asked by its socket what it thinks of its servers."""
import csv
import io
import socket

import stand
from imports.product import Original, Product, replace

# What belongs to the machine that the file was written for, and times of checks that a suite does not wait for.
MACHINE = [
    (r"^\s*(daemon|chroot|user|group|uid|gid|stats socket|nbthread|nbproc|ca-base|crt-base|log|hard-stop-after|stats timeout)\b.*$", ""),
    (r"^(\s*timeout check) .*$", r"\1 2s"),
    (r"\b(inter|fastinter|downinter|agent-inter) \S+", r"\1 100ms"),
    (r"\bslowstart \S+", "slowstart 10ms"),
    (r"\binterface \S+", ""),
    # More than the suite may have descriptors for.
    (r"\bmaxconn \d{4,}\b", "maxconn 1000"),
]


OWN = "our own answers have short texts as their bodies"


class Haproxy(Product):
    name = "haproxy"
    announced = (
        ("request-field", "x-forwarded-for|x-forwarded-proto|x-forwarded-host|x-real-ip|x-request-id", "endpoints are told X-Forwarded-For"),
        # HAProxy's pages of errors; whatever else it answers by itself is to be ours too.
        ("own-body", "", OWN, "", r"^original b'(<html><body><h1>\d{3} [^']*)?', import b'(\d{3} [^']*)?'$"),
        ("own-field", "content-type", OWN, "", r"^original \['text/html'\], import \[('text/plain; charset=utf-8')?\]$"),
        ("own-field", "cache-control", OWN, "", r"^original \['no-cache'\], import \[\]$"),
        ("own-field", "retry-after", OWN, " ", r"^original \[\], import \['\d+'\]$"),
        ("own-field", "allow", OWN, "", r"^original \[\], import "),
    )

    def sources(self, folder):
        return [folder / "haproxy.cfg"]

    def adapt(self, text, site):
        text = replace(text, MACHINE)
        # Servers are checked 10 times a second unless the file says otherwise.
        text = replace(text, [
            (r"^(\s*(?:server|server-template|default-server) .*\bcheck\b)(?!.*\binter )", r"\1 inter 100ms"),
            (r"\bbind (?:\*|0\.0\.0\.0)?:(?=\d)", f"bind {site.ours}:"),
            (r"\bcrt (?!-)\S+", f"crt {site.certificate}"),
            (r"\bca-file \S+", f"ca-file {site.authority}"),
            (r"\bcrt-list \S+", f"crt {site.certificate}"),
        ])
        return text

    def start(self, files, environment, site):
        return Running(files, environment, site)


class Running(Original):
    def __init__(self, files, environment, site):
        self.socket = site.folder / "haproxy.sock"
        extra = site.folder / "extra.cfg"
        # One thread: the order of servers is that of one rotation.
        extra.write_text(f"global\n  stats socket {self.socket} mode 600 level admin\n  nbthread 1\n")
        words = ["/usr/sbin/haproxy", "-db", "-f", extra]
        for file in files:
            words += ["-f", file]
        self.process = stand.Process(words, env={**stand.os.environ, **environment}, cwd=site.folder)
        stand.until("HAProxy", self.answers)

    def answers(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"HAProxy ended: {self.process.errors()}")
        try:
            return self.ask("show info")
        except OSError:
            return False

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return answer.decode()

    def states(self):
        rows = csv.DictReader(io.StringIO(self.ask("show stat").lstrip("# ")))
        found = {}
        for row in rows:
            if row["svname"] in ("FRONTEND", "BACKEND") or not row.get("addr") or row["status"] == "no check":
                continue
            up = row["status"].startswith("UP") and row["check_status"] != "INI"
            found[f"{row['pxname']}/{row['addr']}"] = up
        return found
