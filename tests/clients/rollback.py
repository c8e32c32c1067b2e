"""The runbook conf/rollback.md, by its own commands: Debian's HAProxy and Plimsoll side by side under a real systemd, a
client in a network namespace of its own that opens a connection every 20 ms, and the way there, back and there again."""
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import guest
import stand

REPORT = stand.Report("rollback")
ADDRESS = "10.0.0.100"
PYTHON = os.path.realpath(sys.executable)

HAPROXY = """
global
    stats socket /run/haproxy/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 30s
frontend web
    bind 10.0.0.100:80
    default_backend app
backend app
    option httpchk GET /health
    default-server check inter 300ms fall 2 rise 2
    server a 127.0.0.1:9001
    server b 127.0.0.1:9002
"""

SERVICE = """
[Service]
Type=notify
RuntimeDirectory=haproxy
ExecStart=/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg
KillMode=mixed
[Install]
WantedBy=trial.target
"""

# Says by whom the request has come: only one of the two adds the field.
ORIGIN = """
import http.server, sys
class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        body = b"plimsoll" if self.headers.get("X-Forwarded-For") else b"haproxy"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(("127.0.0.1", int(sys.argv[1])), Origin).serve_forever()
"""

# Every 20 ms a request until the file is there, each on a connection of its own or all on one; by whom they came.
CLIENT = """
import collections, http.client, json, os, sys, time
mode, enough = sys.argv[1:]
ends, connection = collections.Counter(), None
while not os.path.exists(enough):
    try:
        if connection is None or mode == "one each":
            connection = http.client.HTTPConnection("10.0.0.100", 80, timeout=5)
            connection.connect()
            connection.auto_open = 0
        connection.request("GET", "/", headers={"Host": "example.com"})
        answer = connection.getresponse()
        ends[answer.read().decode() if answer.status == 200 else str(answer.status)] += 1
    except (OSError, http.client.HTTPException) as error:
        ends[type(error).__name__] += 1
        connection = None
    time.sleep(0.02)
print(json.dumps(ends))
"""


def steps():
    """The commands of the runbook, by the number of the section."""
    found, number = collections.defaultdict(list), None
    text = (stand.ROOT / "conf" / "rollback.md").read_text()
    for line in re.findall(r"^## [^\n]*$|^```sh\n.*?\n```$", text, re.MULTILINE | re.DOTALL):
        if heading := re.match(r"## (\d)\.", line):
            number = int(heading[1])
        elif block := re.match(r"```sh\n(.*)\n```", line, re.DOTALL):
            found[number].append(block[1])
    return found


def unit():
    """The unit as the package has it."""
    text = (stand.ROOT / "conf" / "plimsoll.service").read_text()
    return text.replace("/usr/local/bin/plimsoll", "/usr/bin/plimsoll")


class Client:
    def __init__(self, scene, mode):
        self.enough = f"/tmp/enough-{time.monotonic_ns()}"
        self.scene = scene
        self.process = scene.start("ip", "netns", "exec", "client", PYTHON, "-c", CLIENT, mode, self.enough)

    def stop(self):
        self.scene.must("touch", self.enough)
        self.process.child.wait(20)
        return json.loads(self.process.output())


def carried_out(scene, name, command):
    done = scene.run("bash", "-euo", "pipefail", "-c", command)
    REPORT.check(name, done.returncode == 0, "" if done.returncode == 0 else f"{done.stdout}{done.stderr}")
    return done.stdout


def network(scene):
    for command in (
        "ip netns add client",
        "ip link add clients type veth peer name eth0 netns client",
        # The address is not the first one of its interface.
        "ip address add 10.0.0.11/24 dev clients",
        f"ip address add {ADDRESS}/24 dev clients",
        "ip link set clients up",
        "ip netns exec client ip link set lo up",
        "ip netns exec client ip address add 10.0.0.1/24 dev eth0",
        "ip netns exec client ip link set eth0 up",
    ):
        scene.must(*command.split())


def by(ends, whom, least=5):
    return set(ends) == {whom} and ends[whom] >= least


def walk(scene, commands):
    network(scene)
    scene.must("systemctl", "start", "origin@9001", "origin@9002")
    for port in (9001, 9002):
        stand.until("an origin", lambda port=port: scene.run("curl", "--silent", f"http://127.0.0.1:{port}/health").stdout)
    scene.must("systemctl", "start", "haproxy")
    everyone = Client(scene, "one each")
    for place, command in enumerate(commands[1]):
        carried_out(scene, f"1: translated and checked, {place}", command)

    observe, compare = commands[2]
    carried_out(scene, "2: observed", observe)
    listeners = json.loads(scene.must("curl", "--silent", "http://127.0.0.1:9900/v1/status"))["listeners"]
    REPORT.equal("no listener is bound", [one["addresses"] for one in listeners], [[]])
    agrees = lambda: "they agree" in scene.run("bash", "-c", compare).stdout
    REPORT.check("the two agree", stand.until("both views", agrees))
    ends = everyone.stop()
    REPORT.check("observing takes nothing from HAProxy", by(ends, "haproxy"), ends)
    # What HAProxy answers for an origin that dies under a request is not our business: nobody asks meanwhile.
    scene.must("systemctl", "stop", "origin@9002")
    down = lambda: agrees() and scene.must("cat", "/tmp/plimsoll.view") == "app/a usable\napp/b unusable\n"
    REPORT.check("also on an endpoint that is down", stand.until("both views of a dead origin", down))
    scene.must("systemctl", "start", "origin@9002")
    stand.until("both views of its return", lambda: agrees() and "unusable" not in scene.must("cat", "/tmp/plimsoll.view"))

    everyone = Client(scene, "one each")
    serve, both = commands[3]
    carried_out(scene, "3: serves beside it", serve)
    told = carried_out(scene, "3: asked beside it", both)
    REPORT.equal("both answer alike", [line.split() for line in told.splitlines()], [["2", "200", "/"], ["2", "200", "/health"]])
    old = Client(scene, "all on one")
    time.sleep(0.5)
    ends = everyone.stop()
    REPORT.check("nor does serving beside it", by(ends, "haproxy"), ends)

    move, back, forget = commands[4]
    everyone = Client(scene, "one each")
    time.sleep(0.3)
    carried_out(scene, "4: moved", move)
    time.sleep(0.5)
    new = Client(scene, "all on one")
    time.sleep(0.5)
    begun = time.monotonic()
    carried_out(scene, "4: and back", back)
    took = time.monotonic() - begun
    time.sleep(0.5)
    ends = everyone.stop()
    REPORT.check("no connection fails on the way there and back", set(ends) == {"haproxy", "plimsoll"} and min(ends.values()) > 10, ends)
    newest = Client(scene, "one each")
    time.sleep(0.5)
    ends = newest.stop()
    REPORT.check("new ones are HAProxy's again", by(ends, "haproxy") and took < 60, f"{ends}, {took:.2f} s")
    ends = [old.stop(), new.stop()]
    REPORT.check("those that are open stay with whom they have", by(ends[0], "haproxy", 30) and by(ends[1], "plimsoll", 30), ends)
    carried_out(scene, "4: forgotten", forget)

    everyone = Client(scene, "one each")
    carried_out(scene, "4: moved again", move)
    time.sleep(0.5)
    carried_out(scene, "5: settled", commands[5][0])
    time.sleep(0.5)
    ends = everyone.stop()
    REPORT.check("no connection fails when HAProxy goes", set(ends) <= {"haproxy", "plimsoll"} and ends["plimsoll"] > 10, ends)
    carried_out(scene, "5: forgotten", forget)
    newest = Client(scene, "one each")
    time.sleep(0.5)
    ends = newest.stop()
    REPORT.check("then all is Plimsoll's", by(ends, "plimsoll"), ends)


def main():
    files = {
        "/etc/systemd/system/trial.target": "[Unit]\nAllowIsolate=yes\n",
        "/etc/systemd/system/plimsoll.service": unit(),
        "/etc/systemd/system/haproxy.service": SERVICE,
        "/etc/systemd/system/origin@.service": f"[Service]\nExecStart={PYTHON} /usr/local/lib/origin.py %i\n",
        "/usr/local/lib/origin.py": ORIGIN,
        "/etc/haproxy/haproxy.cfg": HAPROXY,
        "/etc/plimsoll/plimsoll.toml": "",
        "/usr/bin/plimsoll": pathlib.Path(stand.BINARY),
    }
    scene = guest.Guest(files, "trial.target")
    try:
        walk(scene, steps())
    except (OSError, RuntimeError, TimeoutError, ValueError, subprocess.TimeoutExpired) as error:
        print(scene.journal("plimsoll"), scene.journal("haproxy"))
        REPORT.check("all steps", False, repr(error))
    scene.stop()


if __name__ == "__main__":
    main()
    REPORT.end()
