"""The Debian package in a Debian made for it by debootstrap, under a systemd of its own: installed, upgraded while clients
come and go, upgraded to a program that does not work, its logs rotated, removed and purged."""
import collections
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

REPORT = stand.Report("package")
UNIT = "plimsoll.service"
CONFIGURATION = "/etc/plimsoll/plimsoll.toml"
DROP_IN = f"/etc/systemd/system/{UNIT}.d"
LOG = "/var/log/plimsoll/access.log"
# What the guest needs beside a least Debian.
INCLUDED = "systemd,logrotate,curl"

CONFIG = """
[process]
state_dir = "/var/lib/plimsoll"
[log]
access = "/var/log/plimsoll/access.log"
[listener.web]
bind = ["127.0.0.1:80"]
[listener.raw]
bind = ["127.0.0.1:81"]
protocol = "tcp"
pool = "raw"
[[route]]
pool = "main"
[pool.main]
endpoints = ["127.0.0.1:9001"]
[pool.raw]
endpoints = ["127.0.0.1:9001"]
"""

ORIGIN = """
import http.server, time
class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(4)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"xxxxx")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(("127.0.0.1", 9001), Origin).serve_forever()
"""

# A connection every 10 ms, one that asks again and again until it is told to close, and a tcp session that is never closed:
# how each request ended, until the file is there.
CLIENT = """
import collections, http.client, json, os, socket, sys, threading, time
ends, enough, threads = collections.Counter(), sys.argv[1], []
def one():
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=15)
        connection.request("GET", "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        ends["one " + ("answered" if answer.status == 200 and answer.read() == b"xxxxx" else str(answer.status))] += 1
    except (OSError, http.client.HTTPException) as error:
        ends["one " + type(error).__name__] += 1
def again(port, closes):
    connection = None
    while not os.path.exists(enough):
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
                connection.connect()
                connection.auto_open = False
                ends[f"opened to {port}"] += 1
            connection.request("GET", "/")
            answer = connection.getresponse()
            ends[f"again {port} " + ("answered" if answer.status == 200 and answer.read() == b"xxxxx" else str(answer.status))] += 1
            if answer.getheader("Connection") == "close":
                connection = None
        except (OSError, http.client.HTTPException) as error:
            ends[f"again {port} " + type(error).__name__] += 1
            connection = None
        time.sleep(0.005)
others = [threading.Thread(target=again, args=(80, True)), threading.Thread(target=again, args=(81, False))]
for thread in others:
    thread.start()
while not os.path.exists(enough):
    threads.append(threading.Thread(target=one))
    threads[-1].start()
    time.sleep(0.01)
for thread in threads + others:
    thread.join()
print(json.dumps(ends))
"""


def package():
    """The package, made of the release binary as `packages/build` makes it."""
    build = [stand.ROOT / "packages" / "build", "deb", "--binary", stand.BINARY, "--no-strip", "--fast"]
    # Where tests/run installs cargo-deb.
    path = f"{stand.ROOT / 'target' / 'tools' / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(build, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})
    if done.returncode:
        raise RuntimeError(f"no package: {done.stdout}{done.stderr}")
    return pathlib.Path(done.stdout.split()[-1])


def version(made, number, program=None):
    """The same package as another version, with bytes of its own at the end of the binary, or with another program."""
    folder = stand.directory()
    tree, file = folder / "tree", folder / f"{number}.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", made, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {number}", control.read_text(), flags=re.MULTILINE))
    binary = tree / "usr" / "bin" / "plimsoll"
    if program is None:
        with open(binary, "ab") as end:
            end.write(number.encode())
    else:
        binary.write_text(program)
    sums = tree / "DEBIAN" / "md5sums"
    sums.unlink(missing_ok=True)
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, file], check=True, stdout=subprocess.DEVNULL)
    return file


def debian():
    """A least Debian of the same release as this machine."""
    root = stand.directory() / "debian"
    release = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.MULTILINE)[1]
    command = ["debootstrap", "--variant=minbase", f"--include={INCLUDED}", release, root]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"no Debian: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    root.parent.chmod(0o755)
    return root


class Scene:
    def __init__(self, root, packages):
        files = {"/etc/systemd/system/trial.target": "[Unit]\nAllowIsolate=yes\n"}
        files |= {f"/var/tmp/{name}.deb": file for name, file in packages.items()}
        self.guest = guest.Guest(files, "trial.target", root)
        self.config = CONFIG
        self.origin = stand.Process(self.guest.near(os.path.realpath(sys.executable), "-c", ORIGIN))

    def dpkg(self, *arguments):
        return self.guest.run("dpkg", *arguments, timeout=120)

    def get(self, path, port):
        return self.guest.run("curl", "--silent", "--max-time", "10", f"http://127.0.0.1:{port}{path}").stdout

    def main_process(self):
        return self.guest.show(UNIT, "MainPID")

    def runs_what_is_installed(self):
        """The main process is of the very file that the package brought."""
        return self.guest.run("test", f"/proc/{self.main_process()}/exe", "-ef", "/usr/bin/plimsoll").returncode == 0


class Load:
    def __init__(self, scene):
        self.enough = stand.directory() / "enough"
        self.process = stand.Process(scene.guest.near(os.path.realpath(sys.executable), "-c", CLIENT, self.enough))
        time.sleep(1)

    def stop(self):
        self.enough.touch()
        self.process.child.wait(40)
        return collections.Counter(json.loads(self.process.output()))


def held(ends):
    """Every request of the load was answered, and neither the tcp session nor more than a few connections had to be opened again."""
    answered = {"one answered", "again 80 answered", "again 81 answered"}
    others = {end for end in ends if not end.startswith("opened")} - answered
    return not others and ends["one answered"] > 100 and ends["opened to 81"] == 1 and ends["opened to 80"] <= 5


def installed(scene):
    done = scene.dpkg("--install", "/var/tmp/first.deb")
    quiet = not re.search("warn|err|fail", done.stderr, re.IGNORECASE)
    REPORT.check("it installs", done.returncode == 0 and quiet, "" if quiet else done.stderr)
    stand.until("the service", lambda: scene.guest.show(UNIT, "ActiveState") == "active")
    enabled = scene.guest.run("systemctl", "is-enabled", UNIT).stdout.strip()
    REPORT.equal("the service runs, and will after the next boot", enabled, "enabled")
    REPORT.check("what it comes with answers, and harms nobody", "Plimsoll is installed" in scene.get("/", 8080))
    done = scene.guest.run("plimsoll", "check")
    REPORT.check("its configuration is valid", done.returncode == 0 and done.stderr == "", done.stdout[:60] + done.stderr)
    done = scene.guest.run("systemd-analyze", "--man=no", "verify", f"/usr/lib/systemd/system/{UNIT}")
    REPORT.equal("the unit has no fault", (done.returncode, done.stderr), (0, ""))
    done = scene.guest.run("systemd-analyze", "security", "--no-pager", UNIT)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    REPORT.check("and confines it well", level and float(level[1]) <= 2.0, level and level[0])
    user = scene.guest.must("getent", "passwd", "plimsoll").split(":")
    owner = scene.guest.must("stat", "--format=%U", f"/proc/{scene.main_process()}", "/var/lib/plimsoll", LOG).split()
    REPORT.equal("it runs as a user of its own, whose are its state and its log", (owner, user[6].strip()), (["plimsoll"] * 3, "/usr/sbin/nologin"))
    conffiles = scene.guest.must("dpkg-query", "--show", "--showformat=${Conffiles}", "plimsoll").split()[::2]
    REPORT.equal("what an administrator may edit is marked so", sorted(conffiles), ["/etc/logrotate.d/plimsoll", CONFIGURATION])
    listed = re.findall(r"^  ([a-z]+) ", scene.guest.must("plimsoll", "--help").split("Commands:")[1], re.MULTILINE)
    pages = scene.guest.must("sh", "-c", "ls /usr/share/man/man1 /usr/share/man/man5")
    missing = [name for name in listed if f"plimsoll-{name}.1.gz" not in pages]
    REPORT.check("every command has a manual page, and so has the configuration", len(listed) > 10 and not missing and "plimsoll.toml.5.gz" in pages, missing)
    ask = "source /usr/share/bash-completion/completions/plimsoll; COMP_WORDS=(plimsoll upg); COMP_CWORD=1; _plimsoll plimsoll upg plimsoll; echo ${COMPREPLY[@]}"
    REPORT.equal("bash completes", scene.guest.must("bash", "-c", ask).strip(), "upgrade")


def configured(scene):
    scene.guest.write(CONFIGURATION, CONFIG)
    done = scene.guest.run("systemctl", "reload", UNIT)
    REPORT.equal("an edited configuration comes into force", (done.returncode, scene.get("/", 80)), (0, "xxxxx"))


def rotated(scene):
    inode = scene.guest.must("stat", "--format=%i", LOG)
    done = scene.guest.run("logrotate", "--force", "--verbose", "/etc/logrotate.d/plimsoll")
    REPORT.check("logs rotate", done.returncode == 0 and "error:" not in done.stderr, "" if done.returncode == 0 else done.stderr)
    stand.until("a line in the new log", lambda: scene.get("/", 80) and scene.guest.run("test", "-s", LOG).returncode == 0)
    now = [scene.guest.must("stat", "--format=%i %U", file) for file in (LOG, f"{LOG}.1")]
    REPORT.check("and go on in a new file", now[0].split()[0] != inode.strip() and now[1] == f"{inode.strip()} plimsoll\n", now)


def upgraded(scene, name, what):
    load, before = Load(scene), scene.main_process()
    slow = stand.Process(scene.guest.near("curl", "--silent", "http://127.0.0.1/slow"))
    time.sleep(0.3)
    begun = time.monotonic()
    done = scene.dpkg("--install", f"/var/tmp/{name}.deb")
    took = time.monotonic() - begun
    time.sleep(1)
    REPORT.equal(f"{what} installs", (done.returncode, done.stderr), (0, ""))
    replaced = scene.main_process() != before and scene.runs_what_is_installed()
    REPORT.check(f"{what} runs then, without a restart", replaced and scene.guest.show(UNIT, "NRestarts") == "0", done.stdout.splitlines()[-1])
    slow.child.wait(20)
    REPORT.equal("what was in flight is answered", slow.output(), "xxxxx")
    ends = load.stop()
    REPORT.check("nothing is refused or lost meanwhile", held(ends), f"{dict(ends)}, {took:.1f} s")
    kept = scene.guest.must("cat", CONFIGURATION)
    REPORT.equal("an edited configuration stays", kept, scene.config)


def elsewhere(scene):
    """The admin API is not where it is by default: a drop-in of the unit says so, and an upgrade has to find it."""
    scene.config = CONFIG + '[admin]\nbind = "unix:/run/plimsoll/admin.sock"\n'
    scene.guest.write(CONFIGURATION, scene.config)
    scene.guest.must("mkdir", DROP_IN)
    scene.guest.write(f"{DROP_IN}/admin.conf", "[Service]\nEnvironment=PLIMSOLL_ADMIN=unix:/run/plimsoll/admin.sock\n")
    scene.guest.must("systemctl", "daemon-reload")
    scene.guest.must("systemctl", "restart", UNIT)
    stand.until("the service", lambda: scene.get("/", 80) == "xxxxx")


def broken(scene):
    """A program that does not even start: nothing is replaced, and the one who installed it is told."""
    load, before = Load(scene), scene.main_process()
    done = scene.dpkg("--install", "/var/tmp/broken.deb")
    told = done.returncode == 0 and "the program of before runs on" in done.stderr
    REPORT.check("a program that does not work is installed, and said not to run", told, done.stderr.strip().splitlines()[:1])
    ends = load.stop()
    REPORT.check("the one of before goes on", held(ends) and scene.main_process() == before, dict(ends))


def removed(scene):
    done = scene.dpkg("--remove", "plimsoll")
    REPORT.equal("it is removed", done.returncode, 0)
    gone = scene.guest.run("test", "-e", "/usr/bin/plimsoll").returncode, scene.get("/", 80)
    REPORT.equal("nothing runs then", (gone, scene.guest.run("pidof", "plimsoll").stdout), ((1, ""), ""))
    left = scene.guest.run("test", "-e", CONFIGURATION).returncode, scene.guest.run("test", "-e", LOG).returncode
    REPORT.equal("the configuration and the logs stay", left, (0, 0))
    scene.guest.must("rm", "-r", DROP_IN)
    done = scene.dpkg("--purge", "plimsoll")
    left = scene.guest.run("sh", "-c", "find / -xdev -path '*plimsoll*' -not -path '/var/tmp/*' -not -path '/proc/*'").stdout
    left += scene.guest.run("sh", "-c", "ls -d /var/l*/plimsoll /etc/systemd/system/*/plimsoll* /etc/systemd/system/plimsoll*").stdout
    REPORT.equal("a purge leaves nothing", (done.returncode, left), (0, ""))


def main():
    making = {}
    thread = threading.Thread(target=lambda: making.update(root=debian()))
    thread.start()
    first = package()
    packages = {
        "first": first,
        "second": version(first, "0.1.1-1"),
        "broken": version(first, "0.1.2-1", "#!/bin/sh\necho this does not work >&2\nexit 1\n"),
        "third": version(first, "0.1.3-1"),
    }
    thread.join()
    scene = Scene(making["root"], packages)
    try:
        installed(scene)
        configured(scene)
        rotated(scene)
        upgraded(scene, "second", "the second version")
        elsewhere(scene)
        broken(scene)
        upgraded(scene, "third", "a version after that")
        removed(scene)
    except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
        print(scene.guest.journal(UNIT))
        REPORT.check("all steps", False, repr(error))
    scene.guest.stop()


if __name__ == "__main__":
    main()
    REPORT.end()
