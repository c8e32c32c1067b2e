"""psql and pgbench through the tcp relay to a real PostgreSQL, in a cluster of its own that only lives here."""
import os
import re
import shutil
import subprocess

import stand

BIN = "/usr/lib/postgresql/15/bin"
REPORT = stand.Report("postgres")


def as_postgres(*arguments, seconds=120, data=None):
    command = ["runuser", "-u", "postgres", "--", *map(str, arguments)] if os.geteuid() == 0 else list(map(str, arguments))
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, input=data, cwd="/", check=False)


def cluster():
    files, port = stand.directory(), stand.free_port()
    if os.geteuid() == 0:
        shutil.chown(files, "postgres")
    made = as_postgres(f"{BIN}/initdb", "-D", files / "data", "-A", "trust", "-E", "UTF8", "--no-sync")
    if made.returncode:
        raise RuntimeError(made.stderr)
    arguments = [f"{BIN}/postgres", "-D", files / "data", "-p", port, "-h", "127.0.0.1", "-k", files, "-F",
                 "-c", "max_connections=120"]
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    stand.Process([*prefix, *arguments], cwd="/")
    stand.until("PostgreSQL", lambda: as_postgres(f"{BIN}/pg_isready", "-h", "127.0.0.1", "-p", port).returncode == 0)
    return port


def main():
    origin = cluster()
    proxy = stand.Proxy([origin], protocol="tcp")
    psql = [f"{BIN}/psql", "-X", "-h", "127.0.0.1", "-p", proxy.port, "-d", "postgres", "-At"]
    done = as_postgres(*psql, "-c", "select 40 + 2")
    REPORT.equal("psql", (done.returncode, done.stdout.strip()), (0, "42"))
    done = as_postgres(*psql, "-c", "select sum(length(t)) from (select repeat(md5(i::text), 100) t from generate_series(1, 20000) i) x")
    REPORT.equal("a query with an aggregate", done.stdout.strip(), "64000000")
    done = as_postgres(*psql, "-c", "select repeat(md5(i::text), 100) from generate_series(1, 10000) i")
    REPORT.equal("32 MB of rows", len(done.stdout), 10000 * 3201)
    rows = "".join(f"{n}\t{'x' * 300}\n" for n in range(50000))
    done = as_postgres(*psql, "-c", "create table t (n int, x text)", "-c", "copy t from stdin", data=rows)
    done = as_postgres(*psql, "-c", "select count(*), sum(n) from t")
    REPORT.equal("COPY of 15 MB in", done.stdout.strip(), f"50000|{sum(range(50000))}")
    bench = [f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", proxy.port]
    done = as_postgres(*bench, "-i", "-s", "2", "-q", "postgres")
    REPORT.equal("pgbench -i", done.returncode, 0)
    for name, options in {"20 clients": ["-c", "20", "-j", "2"], "a connection per transaction": ["-C", "-c", "8"]}.items():
        done = as_postgres(*bench, *options, "-T", "6", "postgres")
        failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
        speed = re.search(r"tps = (\S+)", done.stdout)
        good = done.returncode == 0 and failed and failed[1] == "0"
        REPORT.check(f"pgbench, {name}", good, f"{speed[1] if speed else ''} tps" if good else done.stderr[-500:])
    stand.until("a record per session", lambda: len(proxy.records()) > 20)
    ends = {record["end"] for record in proxy.records()}
    REPORT.equal("every session ended in order", ends, {"done"})
    REPORT.end()


if __name__ == "__main__":
    main()
