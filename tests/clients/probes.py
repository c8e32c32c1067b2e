"""One probe at a time against the real servers: PostgreSQL, MariaDB, Redis, nginx with TLS, and gRPC's own health service.
Each runs in a folder of its own that only lives here; `examples/probe.rs` asks them."""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import stand

POSTGRES = "/usr/lib/postgresql/15/bin"
PROBE = os.environ.get("PLIMSOLL_TEST_PROBE", str(stand.ROOT / "target" / "debug" / "examples" / "probe"))
REPORT = stand.Report("probes")
IS_ROOT = os.geteuid() == 0


def probe(check, port, *options, prefix=(), address="127.0.0.1"):
    command = [*prefix, PROBE, check, f"{address}:{port}", "--timeout-ms", "5000", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout or done.stderr).strip()


def comes_to(name, answer, wanted):
    """`wanted` starts the answer; what is behind `...` is somewhere in it."""
    start, _, part = wanted.partition("...")
    REPORT.check(name, answer.startswith(start) and part in answer, answer)


def as_user(user, command):
    return ["runuser", "-u", user, "--", *map(str, command)] if IS_ROOT else list(map(str, command))


def must(command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False, **more)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


class Authority:
    """A certificate authority and what it issues."""

    def __init__(self):
        self.files = stand.directory()
        self.files.chmod(0o755)
        self.ca = self.files / "ca.pem"
        must(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
              "-subj", "/CN=probe authority", "-keyout", self.files / "ca.key", "-out", self.ca])

    def issue(self, name):
        key, request, chain = (self.files / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        must(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
              "-subj", f"/CN={name}", "-keyout", key, "-out", request])
        extension = self.files / f"{name}.ext"
        extension.write_text(f"subjectAltName=DNS:{name}\n")
        must(["openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.files / "ca.key",
              "-CAcreateserial", "-days", "2", "-extfile", extension, "-out", chain])
        key.chmod(0o644)
        return chain, key


def cluster(settings, hba="", signal=None):
    """A PostgreSQL cluster; answers its port and its log."""
    files, port = stand.directory(), stand.free_port()
    if IS_ROOT:
        shutil.chown(files, "postgres")
    data = files / "data"
    must(as_user("postgres", [f"{POSTGRES}/initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--no-sync"]), cwd="/")
    with open(data / "postgresql.conf", "a", encoding="ascii") as config:
        config.write(settings)
    if hba:
        (data / "pg_hba.conf").write_text(hba)
    if signal:
        (data / signal).touch()
        if IS_ROOT:
            shutil.chown(data / signal, "postgres", "postgres")
    server = stand.Process(
        as_user("postgres", [f"{POSTGRES}/postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", files, "-F"]),
        cwd="/",
    )
    stand.until("PostgreSQL", lambda: stand.accepts(port))
    return server, port


def postgres(authority):
    chain, key = authority.issue("db.test")
    private = stand.directory()
    private.chmod(0o755)
    for file in (chain, key):
        shutil.copy(file, private)
    if IS_ROOT:
        shutil.chown(private / key.name, "postgres")
    (private / key.name).chmod(0o600)
    tls = f"ssl = on\nssl_cert_file = '{private / chain.name}'\nssl_key_file = '{private / key.name}'\n"
    hba = ("hostssl all tls_only 127.0.0.1/32 scram-sha-256\nhost all tls_only 127.0.0.1/32 reject\n"
           "host all scram 127.0.0.1/32 scram-sha-256\nhost all md5 127.0.0.1/32 md5\nhost all all 127.0.0.1/32 trust\n")
    server, port = cluster(tls + "log_min_messages = debug1\n", hba)
    ready = [f"{POSTGRES}/pg_isready", "-h", "127.0.0.1", "-p", str(port)]
    stand.until("PostgreSQL", lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)
    before = len(server.errors())
    comes_to("postgres that trusts us", probe("postgres", port), "good: the server trusts us")
    comes_to("postgres asks for SCRAM", probe("postgres", port, "--user", "scram"), "good: the server asks")
    comes_to("postgres asks for md5", probe("postgres", port, "--user", "md5"), "good: the server asks")
    secure = ["--ca", authority.ca, "--server-name", "db.test"]
    comes_to("postgres over TLS", probe("postgres", port, "--user", "tls_only", *secure), "good: ...tls ")
    comes_to("postgres over TLS, of another name", probe("postgres", port, "--ca", authority.ca, "--server-name", "x.test"),
             "cannot be asked: ...not valid for name")
    log = server.errors()[before:]
    noise = [line for line in log.splitlines()
             if "incomplete startup packet" in line or "unexpected EOF" in line or "could not receive" in line]
    REPORT.equal("postgres has nothing to complain of", noise, [])
    comes_to("postgres that refuses us", probe("postgres", port, "--user", "tls_only"), "says no: error 28000")
    _, standby = cluster("hot_standby = off\nrestore_command = 'false'\n", signal="standby.signal")
    recovering = stand.until("recovery", lambda: (answer := probe("postgres", standby)).startswith("says no") and answer)
    comes_to("postgres in recovery", recovering, "says no: error 57P03")
    server.stop()
    comes_to("postgres that is stopped", probe("postgres", port), "cannot be asked: connection refused")


def mariadb(authority):
    chain, key = authority.issue("db.test")
    files, port = stand.directory(), stand.free_port()
    if IS_ROOT:
        shutil.chown(files, "mysql")
    for file in (chain, key):
        shutil.copy(file, files)
        (files / file.name).chmod(0o644)
    options = ["--no-defaults", f"--datadir={files}/data"]
    must(as_user("mysql", ["mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db"]))
    users = files / "users.sql"
    users.write_text("CREATE USER probe@'127.0.0.1';\nCREATE USER guarded@'127.0.0.1' IDENTIFIED BY 'secret';\n"
                     "CREATE USER modern@'127.0.0.1' IDENTIFIED VIA ed25519 USING PASSWORD('secret');\n"
                     "CREATE USER tls_only@'127.0.0.1' REQUIRE SSL;\n")
    users.chmod(0o644)
    server = stand.Process(as_user("mysql", [
        "/usr/sbin/mariadbd", *options, f"--socket={files}/socket", f"--port={port}", "--bind-address=127.0.0.1",
        f"--init-file={users}", "--skip-name-resolve", f"--pid-file={files}/pid", "--plugin-load-add=auth_ed25519",
        f"--ssl-cert={files / chain.name}", f"--ssl-key={files / key.name}"]))

    def ask(sql):
        command = ["mariadb", "--no-defaults", f"--socket={files}/socket", "-u", "root", "-N", "-B", "-e", sql]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout.strip()

    stand.until("MariaDB", lambda: ask("select count(*) from mysql.global_priv where user in ('probe','guarded','modern','tls_only')") == "4")
    aborted = "show global status like 'Aborted_c%'"
    before = ask(aborted)
    comes_to("mysql logs in", probe("mysql", port, "--user", "probe"), "good: logged in")
    secure = ["--ca", authority.ca, "--server-name", "db.test"]
    comes_to("mysql over TLS", probe("mysql", port, "--user", "tls_only", *secure), "good: logged in...tls ")
    REPORT.equal("mysql counts no aborted connection", ask(aborted), before)
    comes_to("mysql over TLS, of another name", probe("mysql", port, "--ca", authority.ca, "--server-name", "x.test"),
             "cannot be asked: ...not valid for name")
    comes_to("mysql that wants TLS", probe("mysql", port, "--user", "tls_only"), "says no: error 1045")
    comes_to("mysql that only greets, over TLS", probe("mysql", port, *secure), "good: the server greets...tls ")
    before = ask(aborted)
    comes_to("mysql that only greets", probe("mysql", port), "good: the server greets")
    stand.until("an aborted connection to be counted", lambda: ask(aborted) != before)
    comes_to("mysql that wants a password", probe("mysql", port, "--user", "guarded"), "says no: error 1045")
    comes_to("mysql that wants another way of authentication", probe("mysql", port, "--user", "modern"),
             "good: the server asks")
    ask("set global max_connections = 10")
    full = [subprocess.Popen(["mariadb", "--no-defaults", f"--socket={files}/socket", "-u", "root", "-e", "select sleep(60)"])
            for _ in range(11)]
    try:
        answer = stand.until("no room", lambda: (a := probe("mysql", port, "--user", "probe")).startswith("says no") and a)
        comes_to("mysql without room", answer, "says no: error 1040")
    finally:
        for client in full:
            client.kill()
            client.wait()
    server.stop()
    comes_to("mysql that is stopped", probe("mysql", port, "--user", "probe"), "cannot be asked: connection refused")


def redis_server(*options):
    files, port = stand.directory(), stand.free_port()
    stand.Process(["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", files, "--save", "", *options])
    stand.until("Redis", lambda: stand.accepts(port))
    return port


def redis(authority):
    chain, key = authority.issue("redis.test")
    secure = stand.free_port()
    primary = redis_server("--tls-port", secure, "--tls-cert-file", chain, "--tls-key-file", key,
                           "--tls-ca-cert-file", authority.ca, "--tls-auth-clients", "no")
    replica = redis_server("--replicaof", "127.0.0.1", primary)
    guarded = redis_server("--requirepass", "secret")
    comes_to("redis", probe("redis", primary), "good: PONG")
    comes_to("redis primary", probe("redis", primary, "--primary"), "good: role master")
    comes_to("redis replica is alive", probe("redis", replica), "good: PONG")
    comes_to("redis replica is no primary", probe("redis", replica, "--primary"), "says no: role slave")
    comes_to("redis that wants a password", probe("redis", guarded), "says no: NOAUTH")
    comes_to("redis over TLS", probe("redis", secure, "--primary", "--ca", authority.ca, "--server-name", "redis.test"),
             "good: role master")
    comes_to("redis in the clear on its TLS port", probe("redis", secure), "cannot be asked: ")
    subprocess.run(["redis-cli", "-p", str(replica), "replicaof", "no", "one"], capture_output=True, check=True)
    comes_to("redis promoted", probe("redis", replica, "--primary"), "good: role master")
    comes_to("redis by send and expect", probe("tcp", primary, "--send", "PING\r\n", "--expect", r"^\+PONG"), "good: ")


def nginx(authority):
    chain, key = authority.issue("web.test")
    files, plain, tls, mutual = stand.directory(), stand.free_port(), stand.free_port(), stand.free_port()
    certificate = f"ssl_certificate {chain}; ssl_certificate_key {key};"
    pages = ('location = /health { return 200 "{\\"timeline\\": 7}"; } location = /sick { return 503; } '
             'location / { return 301 /health; }')
    config = files / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {files}/pid; error_log stderr info; events {{}}\nhttp {{ access_log off;\n"
        + "".join(f"{kind}_temp_path {files}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f"server {{ listen 127.0.0.1:{plain}; {pages} }}\n"
        f"server {{ listen 127.0.0.1:{tls} ssl; server_name web.test; {certificate} {pages} }}\n"
        f"server {{ listen 127.0.0.1:{mutual} ssl; {certificate} ssl_client_certificate {authority.ca}; "
        f"ssl_verify_client on; {pages} }}\n}}\n")
    server = stand.Process(["/usr/sbin/nginx", "-e", "stderr", "-p", files, "-c", config])
    stand.until("nginx", lambda: stand.accepts(mutual))
    secure = ["--ca", authority.ca, "--server-name", "web.test"]
    comes_to("http", probe("http", plain, "--path", "/health"), "good: status 200")
    comes_to("http with a rank", probe("http", plain, "--path", "/health", "--rank", "timeline"), "good: ...rank 7")
    comes_to("http that says no", probe("http", plain, "--path", "/sick"), "says no: status 503")
    comes_to("http that redirects", probe("http", plain), "says no: status 301")
    comes_to("http over TLS", probe("http", tls, "--path", "/health", *secure), "good: status 200...tls ")
    comes_to("http over TLS that says no", probe("http", tls, "--path", "/sick", *secure), "says no: status 503")
    comes_to("http in the clear on a TLS port", probe("http", tls, "--path", "/health"), "says no: status 400")
    comes_to("http over TLS on a clear port", probe("http", plain, *secure), "cannot be asked: ")
    comes_to("tls", probe("tls", tls, *secure), "good: TLS handshake done")
    comes_to("tls of another name", probe("tls", tls, "--ca", authority.ca, "--server-name", "x.test"),
             "cannot be asked: ...not valid for name")
    comes_to("tls of nobody the system trusts", probe("tls", tls, "--server-name", "web.test"),
             "cannot be asked: ...UnknownIssuer")
    ours, ours_key = authority.issue("plimsoll")
    pair = ["--cert", ours, "--key", ours_key]
    comes_to("http with a client certificate", probe("http", mutual, "--path", "/health", *secure, *pair),
             "good: status 200")
    comes_to("http without the client certificate", probe("http", mutual, "--path", "/health", *secure),
             "says no: status 400")
    noise = [line for line in server.errors().splitlines() if "[crit]" in line or "[alert]" in line]
    REPORT.equal("nginx has nothing to complain of", noise, [])


def grpc_health(authority):
    chain, key = (pathlib.Path(file).read_bytes() for file in authority.issue("grpc.test"))
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("down", health_pb2.HealthCheckResponse.NOT_SERVING)
    servicer.set("up", health_pb2.HealthCheckResponse.SERVING)
    plain = server.add_insecure_port("127.0.0.1:0")
    secure = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    empty = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    without = empty.add_insecure_port("127.0.0.1:0")
    server.start()
    empty.start()
    comes_to("grpc", probe("grpc", plain), "good: SERVING")
    comes_to("grpc of a service", probe("grpc", plain, "--service", "up"), "good: SERVING")
    comes_to("grpc of a service that is down", probe("grpc", plain, "--service", "down"), "says no: NOT_SERVING")
    comes_to("grpc of a service that nobody knows", probe("grpc", plain, "--service", "x"), "says no: grpc-status 5")
    comes_to("grpc without health service", probe("grpc", without), "says no: grpc-status 12")
    comes_to("grpc over TLS", probe("grpc", secure, "--ca", authority.ca, "--server-name", "grpc.test"), "good: SERVING")
    comes_to("grpc in the clear on a TLS port", probe("grpc", secure), "cannot be asked: ")
    server.stop(None)
    empty.stop(None)


def our_own_want():
    """A probe that lacks descriptors or an address says nothing about the endpoint."""
    port = redis_server()
    answers = [probe("tcp", port, prefix=["prlimit", f"--nofile={limit}"]) for limit in range(6, 20)]
    void = [answer for answer in answers if answer.startswith("void: ") and "Too many open files" in answer]
    REPORT.check("without a descriptor a probe is void", void and not [a for a in answers if "cannot be asked" in a],
                 void[0] if void else answers)
    alone = ["unshare", "--net"] if IS_ROOT else ["unshare", "--net", "--map-root-user"]
    comes_to("without an address of ours", probe("tcp", 80, prefix=alone, address="192.0.2.1"),
             "cannot be asked: ...(no address of ours left)")


def main():
    if not os.path.exists(PROBE):
        raise SystemExit(f"{PROBE} is missing; cargo build --examples makes it")
    authority = Authority()
    for part in (postgres, redis, nginx, grpc_health):
        part(authority)
    mariadb(authority)
    our_own_want()
    REPORT.end()


if __name__ == "__main__":
    main()
