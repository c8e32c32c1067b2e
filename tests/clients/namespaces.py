"""Network namespaces for suites that lose packets and kill machines: this program in one, the origins in another, a pair
of veth between them, and nft for the losses. A namespace ends with its last process, so nothing is left behind, whatever
way the suite ends, and nothing of the machine's own network is touched."""
import os
import resource
import subprocess
import sys

import stand

INSIDE = "PLIMSOLL_TEST_NAMESPACE"
OURS = "10.211.0.1"
NETWORK = "10.211.0"


def enter():
    """Starts this program again in a network namespace of its own; without root in a user namespace too. Where the
    kernel allows neither the suite fails: what was not tried does not pass."""
    if not os.environ.get(INSIDE):
        mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
        os.environ[INSIDE] = os.readlink("/proc/self/ns/net")
        os.execvp("unshare", ["unshare", "--net", *mapped, sys.executable, *sys.argv])
    if os.readlink("/proc/self/ns/net") == os.environ[INSIDE]:
        raise RuntimeError("this is no namespace of our own")
    must(["ip", "link", "set", "lo", "up"])
    # Thousands of connections, of ours and of what we start.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def must(command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30, check=False, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


class Namespace:
    """Where the origins are: `addresses` of them, reached over a pair of veth."""

    def __init__(self, addresses):
        self.addresses = [f"{NETWORK}.{place}" for place in range(2, 2 + addresses)]
        # What a scene before this one left on our side.
        subprocess.run(["ip", "link", "delete", "ours"], capture_output=True, check=False)
        must(["nft", "flush", "ruleset"])
        self.holder = stand.Process(["unshare", "--net", "sleep", "infinity"])
        self.net = f"/proc/{self.holder.child.pid}/ns/net"
        ours = os.readlink("/proc/self/ns/net")
        stand.until("the namespace", lambda: os.readlink(self.net) != ours)
        must(["ip", "link", "add", "ours", "type", "veth", "peer", "name", "theirs", "netns", self.holder.child.pid])
        must(["ip", "address", "add", f"{OURS}/24", "dev", "ours"])
        must(["ip", "link", "set", "ours", "up"])
        self.run("ip", "link", "set", "lo", "up")
        for address in self.addresses:
            self.run("ip", "address", "add", f"{address}/24", "dev", "theirs")
        self.run("ip", "link", "set", "theirs", "up")

    def inside(self, *command):
        return ["nsenter", f"--net={self.net}", *command]

    def run(self, *command, **more):
        return must(self.inside(*command), **more)

    def rules(self, here, there):
        """Rules for what comes in, here and there: a rule on the way out would be an error of the sender's own call,
        which no lost packet is. They take the place of the rules before."""
        for rule, run in ((here, must), (there, lambda command, **more: self.run(*command, **more))):
            table = f"chain losses {{\ntype filter hook prerouting priority -300;\n{rule}\n}}"
            run(["nft", "-f", "-"], input=f"table ip plimsoll\ndelete table ip plimsoll\ntable ip plimsoll {{\n{table}\n}}\n")

    def silence(self, address):
        """All packets to and from an address are lost."""
        self.rules(f"ip saddr {address} drop", f"ip daddr {address} drop")

    def stop(self):
        self.holder.stop()
