"""A Patroni cluster of three behind conf/patroni.toml as it stands: etcd, Patroni and PostgreSQL on the addresses that
file names, in a network namespace of their own. Its leader dies, its Patroni dies alone, the role is handed over, its
REST API falls silent; writers and readers that go through the proxy say what they saw of it."""
import atexit
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

import psycopg

import stand

BIN = "/usr/lib/postgresql/15/bin"
CONFIG = stand.ROOT / "conf" / "patroni.toml"
PRIMARY, REPLICAS = 5000, 5001
REPORT = stand.Report("patroni cluster")
# What is fixed: a superseded leader is closed off so soon after the new one's first 200.
CLOSED_WITHIN = 3.0
SILENCE = 20.0
# ttl of the leader's key, a turn of Patroni's loop, the promotion itself, and a slow machine.
FAILOVER_WITHIN = 40.0
# What a connect and a write, and our own look every 30 ms, may add to a bound.
SLACK = 0.4


def must(*command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False, **more)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def connect(port, host="127.0.0.1", **more):
    more = {"connect_timeout": 30, "autocommit": True, **more}
    return psycopg.connect(host=host, port=port, user="postgres", dbname="postgres", sslmode="disable", **more)


class Node:
    """One machine: an address, a data directory, a Patroni and the PostgreSQL that this one starts."""

    def __init__(self, name, address, files):
        self.name, self.address, self.files = name, address, files / name
        self.files.mkdir()
        shutil.chown(self.files, "postgres", "postgres")
        self.settings = self.files / "patroni.json"
        self.settings.write_text(json.dumps(self.described()))
        self.patroni = None
        # When its API last began to say that it leads; nothing while it does not.
        self.leads_since = None
        atexit.register(self.kill)
        threading.Thread(target=self.look, daemon=True).start()

    def described(self):
        parameters = {"fsync": "off", "max_connections": 120, "shared_buffers": "16MB",
                      "unix_socket_directories": str(self.files)}
        user = {"username": "postgres", "password": "any"}
        return {
            "scope": "plimsoll", "name": self.name,
            "etcd3": {"hosts": "127.0.0.1:2379"},
            "restapi": {"listen": f"{self.address}:8008", "connect_address": f"{self.address}:8008"},
            "bootstrap": {
                "dcs": {"ttl": 10, "loop_wait": 2, "retry_timeout": 3, "postgresql": {"parameters": parameters}},
                "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}],
            },
            "postgresql": {
                "listen": f"{self.address}:5432", "connect_address": f"{self.address}:5432", "bin_dir": BIN,
                "data_dir": str(self.files / "data"), "pgpass": str(self.files / "pgpass"),
                "authentication": {"superuser": user, "replication": user},
                "parameters": parameters, "basebackup": [{"checkpoint": "fast"}],
                "pg_hba": ["local all all trust", "host all all all trust", "host replication all all trust"],
            },
        }

    def start(self):
        self.patroni = stand.Process(["/usr/bin/patroni", self.settings], cwd="/", user="postgres", group="postgres",
                                     extra_groups=[], env={"PATH": f"{BIN}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"})

    def postgres(self):
        """Process ids of PostgreSQL, its first one first."""
        try:
            first = int((self.files / "data" / "postmaster.pid").read_text().split()[0])
            children = pathlib.Path(f"/proc/{first}/task/{first}/children").read_text()
        except (OSError, ValueError, IndexError):
            return []
        return [first, *map(int, children.split())]

    def kill_postgres(self):
        for pid in self.postgres():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_patroni(self):
        if self.patroni:
            self.patroni.stop(signal.SIGKILL)

    def kill(self):
        self.kill_patroni()
        self.kill_postgres()

    def renew(self):
        """Comes back as a new machine of the same name."""
        self.kill()
        stand.until(f"the end of {self.name}", lambda: not stand.accepts(5432, self.address))
        shutil.rmtree(self.files / "data", ignore_errors=True)
        self.start()

    def ask(self, path, method="GET", body=None):
        api = http.client.HTTPConnection(self.address, 8008, timeout=1 if method == "GET" else 30)
        try:
            api.request(method, path, body)
            answer = api.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            api.close()

    def look(self):
        while True:
            status, _ = self.ask("/primary")
            if status != 200:
                self.leads_since = None
            elif self.leads_since is None:
                self.leads_since = time.monotonic()
            time.sleep(0.03)

    def replicates(self):
        """Both Patroni and PostgreSQL say so."""
        if self.ask("/replica")[0] != 200:
            return False
        try:
            with connect(5432, self.address, connect_timeout=2) as here:
                return here.execute("select count(*) from pg_stat_wal_receiver where status = 'streaming'").fetchone()[0] == 1
        except psycopg.Error:
            return False


class Client(threading.Thread):
    """Does the same thing over and over until it is told to end; what went wrong is kept with its time."""

    def __init__(self, port, turns):
        super().__init__(daemon=True)
        self.port, self.turns = port, turns
        self.done, self.errors = [], []
        self.ending = threading.Event()
        self.start()

    def run(self):
        while not self.ending.is_set():
            begun = time.monotonic()
            try:
                with connect(self.port) as session:
                    for _ in range(self.turns):
                        if self.ending.is_set():
                            return
                        begun = time.monotonic()
                        what = self.act(session)
                        self.done.append((begun, time.monotonic(), *what))
                        time.sleep(0.02)
            except psycopg.Error as error:
                self.errors.append((begun, time.monotonic(), str(error).strip().replace("\n", " ")))
                time.sleep(0.05)

    def failed_since(self, moment):
        return [(round(at - moment, 1), text[:120]) for _, at, text in self.errors if at >= moment]


class Writer(Client):
    """Writes numbered rows; each acknowledged one is (begun, acknowledged, address of the node, number)."""

    numbers = iter(range(10**9))
    lock = threading.Lock()

    def act(self, session):
        with self.lock:
            number = next(self.numbers)
        query = "insert into writes (number) values (%s) returning host(node)"
        return session.execute(query, [number]).fetchone()[0], number


class Reader(Client):
    """Each read is (begun, answered, address of the node, whether it replicates)."""

    def act(self, session):
        return session.execute("select host(inet_server_addr()), pg_is_in_recovery(), count(*) from writes").fetchone()[:2]


class Idle:
    """Sessions on which nothing happens: when their end arrives is when the proxy, or the node, closed them."""

    def __init__(self, count):
        self.sessions = [connect(PRIMARY) for _ in range(count)]
        self.closed = {}
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        poll = select.poll()
        for session in self.sessions:
            poll.register(session.fileno(), select.POLLIN)
        while len(self.closed) < len(self.sessions):
            for number, _ in poll.poll():
                poll.unregister(number)
                self.closed[number] = time.monotonic()

    def closed_by(self, deadline):
        """When the last one was closed, or nothing."""
        self.thread.join(max(0, deadline - time.monotonic()))
        return max(self.closed.values()) if len(self.closed) == len(self.sessions) else None


class Stand:
    """The whole of it."""

    def __init__(self):
        files = stand.directory()
        files.chmod(0o755)
        text = CONFIG.read_text()
        addresses = dict(re.findall(r'name = "(pg-\d)", address = "([\d.]+):5432"', text))
        must("ip", "link", "set", "lo", "up")
        for address in addresses.values():
            must("ip", "address", "add", f"{address}/32", "dev", "lo")
        stand.Process(["/usr/bin/etcd", "--data-dir", files / "etcd"])
        stand.until("etcd", lambda: stand.accepts(2379))
        self.nodes = [Node(name, address, files) for name, address in addresses.items()]
        self.nodes[0].start()
        try:
            stand.until("a first leader", lambda: self.nodes[0].leads_since, 30)
        except TimeoutError:
            print(self.nodes[0].patroni.errors()[-3000:], self.nodes[0].patroni.output()[-1000:])
            raise
        for node in self.nodes[1:]:
            node.start()
        with connect(5432, self.nodes[0].address) as leader:
            leader.execute("create table writes (number bigint primary key, node inet not null default inet_server_addr(),"
                           " at timestamptz not null default clock_timestamp())")
        self.bounds = self.printed()
        self.proxy = stand.Process([stand.BINARY, "run", "--config", CONFIG])
        self.wait_for_all()
        self.writers = [Writer(PRIMARY, turns) for turns in (10**9, 10**9, 10)]
        self.readers = [Reader(REPLICAS, turns) for turns in (10**9, 1)]

    @staticmethod
    def printed():
        """Seconds until a refused endpoint and a new leader are noticed, as `plimsoll check` prints them."""
        text = must(stand.BINARY, "check", "--config", CONFIG)
        found = re.search(r"primary .*\n.* a refused endpoint is noticed in ([\d.]+) s.*a new leader in ([\d.]+) s", text)
        return {"refused": float(found[1]), "leader": float(found[2])}

    def leader(self):
        return next((node for node in self.nodes if node.leads_since), None)

    def others(self, node):
        return [other for other in self.nodes if other is not node]

    def wait_for_all(self):
        def whole():
            leader = self.leader()
            return leader and all(node.replicates() for node in self.others(leader))

        stand.until("a leader and two replicas", whole, 60)
        stand.until("the proxy to see them", lambda: self.usable("replicas") == 2 and self.usable("primary") == 1)

    @staticmethod
    def usable(pool):
        api = http.client.HTTPConnection("127.0.0.1", 9900, timeout=2)
        try:
            api.request("GET", f"/v1/pools/{pool}")
            return sum(endpoint["usable"] for endpoint in json.loads(api.getresponse().read())["endpoints"])
        except (OSError, KeyError, ValueError, http.client.HTTPException):
            return None
        finally:
            api.close()

    @staticmethod
    def told():
        """The proxy's own account of what happened, a line per event."""
        api = http.client.HTTPConnection("127.0.0.1", 9900, timeout=2)
        api.request("GET", "/v1/events?after=0")
        return "\n".join(json.dumps(event) for event in json.loads(api.getresponse().read()))

    def successor(self, old):
        """The new leader, and since when it says so."""
        node = stand.until(f"a successor of {old.name}",
                           lambda: next((n for n in self.others(old) if n.leads_since), None), FAILOVER_WITHIN)
        return node, node.leads_since

    def writers_reach(self, what, node, since):
        """Every writer is acknowledged by the new leader within the printed bound."""
        def reached():
            firsts = [next((w[1] for w in list(writer.done) if w[2] == node.address and w[0] > since - 5), None)
                      for writer in self.writers]
            return all(firsts) and firsts

        try:
            took = max(stand.until("writers at the new leader", reached, 20)) - since
        except TimeoutError:
            errors = [writer.failed_since(since)[-2:] for writer in self.writers]
            REPORT.check(f"{what}: every writer reaches the new leader", False, f"not within 20 s: {errors}")
            return
        bound = self.bounds["leader"]
        REPORT.check(f"{what}: every writer reaches the new leader within the printed {bound} s", took <= bound + SLACK,
                     f"{took:.2f} s after its first 200")

    def connections_wait(self, what, begun):
        """Once it is noticed that nobody leads, new connections wait for the next leader instead of failing."""
        bound = self.bounds["refused"]
        failed = [error for writer in self.writers for error in writer.failed_since(begun)]
        first = min((at for at, _ in failed), default=0)
        late = [error for error in failed if error[0] > first + bound + SLACK]
        REPORT.check(f"{what}: from the printed {bound} s on new connections wait", not late,
                     f"{len(failed)} failed in all {late[:2]}")

    def old_is_silent(self, what, old, closed):
        """Nothing begun after its sessions were closed is acknowledged by a superseded node."""
        late = [write for writer in self.writers for write in list(writer.done) if write[2] == old.address and write[0] > closed]
        REPORT.check(f"{what}: no write at the superseded node after its sessions were closed", not late, f"{len(late)} late")

    def nothing_is_lost(self, what, node, since):
        """What the new leader acknowledged is there."""
        def acknowledged():
            return {write[3] for writer in self.writers for write in list(writer.done)
                    if write[2] == node.address and write[0] > since}

        acked = stand.until("writes at the new leader", lambda: len(acknowledged()) >= 100 and acknowledged())
        with connect(PRIMARY) as session:
            kept = {row[0] for row in session.execute("select number from writes").fetchall()}
        REPORT.check(f"{what}: what the new leader acknowledged is kept", acked <= kept, f"{len(acked)} writes")

    def reads(self, what, since):
        """Reads went on. A session may end with its node, once; no new connection fails. Says how many of these were
        served by a node that did not replicate, and how many there were."""
        failed = [reader.failed_since(since) for reader in self.readers]
        done = [read for reader in self.readers for read in list(reader.done) if read[0] >= since]
        gap = max((b[1] - a[1] for reader in self.readers for a, b in self.pairs(reader, since)), default=99)
        REPORT.check(f"{what}: replicas serve reads", len(done) > 50 and len(failed[0]) <= 1 and not failed[1] and gap < 3,
                     f"{len(done)} reads, longest pause {gap:.2f} s, failed {failed}")
        fresh = [read for read in list(self.readers[1].done) if read[0] >= since]
        return sum(not read[3] for read in fresh), len(fresh)

    @staticmethod
    def pairs(reader, since):
        done = [read for read in list(reader.done) if read[0] >= since]
        return zip(done, done[1:])


def end_of_sessions(what, idle, since):
    """The sessions at the superseded node end in time; says when."""
    closed = idle.closed_by(since + 15)
    REPORT.check(f"{what}: its sessions are closed within {CLOSED_WITHIN:.0f} s of the new leader's first 200",
                 closed and closed - since <= CLOSED_WITHIN, f"{closed - since:+.2f} s" if closed else "some are open after 15 s")
    return closed or since + CLOSED_WITHIN


def the_machine_dies(here):
    what, begun = "machine killed", time.monotonic()
    old, idle = here.leader(), Idle(10)
    old.kill()
    new, since = here.successor(old)
    closed = end_of_sessions(what, idle, since)
    here.writers_reach(what, new, since)
    here.connections_wait(what, begun)
    here.old_is_silent(what, old, closed)
    here.nothing_is_lost(what, new, since)
    here.reads(what, begun)
    return old


def the_api_falls_silent(here):
    what, begun = "API cut off", time.monotonic()
    leader, idle = here.leader(), Idle(10)
    must("nft", "add table ip cut; add chain ip cut in { type filter hook input priority 0; }; "
         f"add rule ip cut in ip daddr {leader.address} tcp dport 8008 drop")
    time.sleep(SILENCE)
    must("nft", "delete", "table", "ip", "cut")
    stand.until("the API again", lambda: leader.leads_since)
    # Two more intervals, for what an answer after the silence might do.
    time.sleep(2.5)
    REPORT.equal(f"{what} for {SILENCE:.0f} s: no session is closed", len(idle.closed), 0)
    failed = [error for writer in here.writers for error in writer.failed_since(begun)]
    counts = [sum(write[0] >= begun for write in list(writer.done)) for writer in here.writers]
    REPORT.check(f"{what}: no write fails, on old sessions and new ones", not failed and min(counts) > 100,
                 f"{counts} {failed[:2]}")
    nodes = {write[2] for writer in here.writers for write in list(writer.done) if write[0] >= begun}
    REPORT.equal(f"{what}: the leader stays", nodes, {leader.address})
    here.reads(what, begun)


def patroni_dies_alone(here):
    what, begun = "Patroni killed alone", time.monotonic()
    old, idle = here.leader(), Idle(10)
    old.kill_patroni()
    new, since = here.successor(old)
    wall = time.time() - (time.monotonic() - since)
    closed = end_of_sessions(what, idle, since)
    here.writers_reach(what, new, since)
    REPORT.check(f"{what}: nothing is closed before there is a successor", min(idle.closed.values(), default=0) >= since - SLACK)
    failed = [len(writer.failed_since(begun)) for writer in here.writers]
    REPORT.check(f"{what}: each writer fails at most once, when it is cut off", max(failed) <= 1, str(failed))
    here.old_is_silent(what, old, closed)
    here.nothing_is_lost(what, new, since)
    # Its PostgreSQL is still there and still takes writes: it must have got none.
    with connect(5432, old.address) as session:
        writable = not session.execute("select pg_is_in_recovery()").fetchone()[0]
        late = "select count(*) from writes where node = inet_server_addr() and at > to_timestamp(%s)"
        late = session.execute(late, [wall + CLOSED_WITHIN]).fetchone()[0]
    REPORT.equal(f"{what}: the superseded node, by its own rows", (writable, late), (True, 0))
    here.reads(what, begun)
    return old


def the_role_is_handed_over(here):
    what, begun = "switchover", time.monotonic()
    old, idle = here.leader(), Idle(10)
    candidate = here.others(old)[0]
    order = json.dumps({"leader": old.name, "candidate": candidate.name})
    answers = []
    asking = threading.Thread(target=lambda: answers.append(old.ask("/switchover", "POST", order)), daemon=True)
    asking.start()
    new, since = here.successor(old)
    closed = end_of_sessions(what, idle, since)
    here.writers_reach(what, new, since)
    here.connections_wait(what, begun)
    here.old_is_silent(what, old, closed)
    here.nothing_is_lost(what, new, since)
    asking.join(30)
    REPORT.equal(f"{what}: Patroni's answer", (answers or [(0, "")])[0][0], 200)
    here.wait_for_all()
    here.reads(what, begun)


def all_is_well_again(here):
    here.wait_for_all()
    # Had there been no replica for a moment, the leader goes on serving reads for the time that failback says.
    stand.until("reads at replicas", lambda: all(read[3] for read in here.readers[1].done[-20:]))
    begun = time.monotonic()
    stand.until("some reads", lambda: len([r for r in list(here.readers[1].done) if r[0] > begun]) > 60)
    at_leader, count = here.reads("in the end", begun)
    REPORT.check("in the end: only replicas serve new reads", at_leader == 0, f"{count} connections")


def play(here):
    dead = the_machine_dies(here)
    # It copies the database meanwhile.
    dead.renew()
    the_api_falls_silent(here)
    here.wait_for_all()
    dead = patroni_dies_alone(here)
    dead.renew()
    here.wait_for_all()
    the_role_is_handed_over(here)
    all_is_well_again(here)
    REPORT.check("the proxy lives", here.proxy.child.poll() is None)


def main():
    if os.geteuid() != 0:
        sys.exit("patroni cluster: must run as root, for a network namespace and for PostgreSQL's user")
    if "PLIMSOLL_TEST_ALONE" not in os.environ:
        os.environ["PLIMSOLL_TEST_ALONE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__])
    here = Stand()
    try:
        play(here)
    except TimeoutError as error:
        REPORT.check("no wait is in vain", False, error)
        for node in here.nodes:
            print(f"--- {node.name}: {node.patroni.errors()[-1500:]}")
    if REPORT.failed:
        print(here.told(), here.proxy.output(), sep="\n")
    for client in (*here.writers, *here.readers):
        client.ending.set()
    for node in here.nodes:
        node.kill()
    REPORT.end()


if __name__ == "__main__":
    main()
