"""nginx as Debian has it. It asks no endpoint by itself: it notices by requests, and says nothing of what it thinks."""
import re

import stand
from imports.product import Original, Product, replace

BAN = "fail_timeout=3s"
# What belongs to the machine that the file was written for.
MACHINE = [
    (r"^\s*(?:user|pid|daemon|worker_processes|worker_rlimit_nofile|worker_cpu_affinity)\s[^;]*;", ""),
    (r"\berror_log\s[^;]*;", ""),
    (r"\baccess_log\s[^;]*;", "access_log off;"),
    (r"\binclude\s+/etc/nginx/(?:mime\.types|modules-enabled/\*\.conf);", ""),
    (r"\b(?:ssl_crl|proxy_ssl_crl|ssl_dhparam|ssl_password_file)\s[^;]*;", ""),
    # Bans outlast the requests of a phase, and are over after a wait that a suite can bear. A time of 0 means that none is banned.
    (r"\bfail_timeout=(?!0[ms]?[\s;])[^\s;]+", BAN),
    (r"\bserver(\s+[\d\[][^;{}]*?)\s*;", lambda found: f"server{banned(found[1])};"),
    # The address of the suite is one of IPv4.
    (r"\blisten\s+\[::\]:\d+[^;]*;", ""),
]


def banned(server):
    return server if "fail_timeout=" in server else f"{server} {BAN}"


class Nginx(Product):
    name = "nginx"
    passive = True
    # nginx counts whole seconds, and one that is banned for three is let in again in the fourth.
    bans = 4.5
    announced = (
        ("request-field", "x-forwarded-for|x-forwarded-proto|x-forwarded-host|x-real-ip|x-request-id", "endpoints are told X-Forwarded-For"),
        # A page of nginx's own; what `return` says is the same on both sides.
        ("own-body", "", "our own answers have short texts as their bodies", "", r"original b'<html>"),
        ("own-field", "content-type", "our own answers have short texts as their bodies", "", r"^original \['text/html'\], import \[(?:'text/plain[^']*')?\]$"),
        ("own-field", "content-type", "nginx goes by the end of the path before", r"\.html", r"^original \['text/html'\]"),
        ("own-field", "cache-control|retry-after", "our own answers have short texts as their bodies", "", r"^original \[\],"),
        ("own-field", "server", "our own answers have short texts as their bodies", "", r", import \[\]$"),
        (
            "request-field", "host", "Host goes on as it came, with a port where clients name one",
            "", r"^original \['([^':]+)'\], import \['\1:\d+'\]$",
        ),
        ("answer-field", "server", "nginx puts its own Server in the place of the endpoints'"),
        ("status", "502-503", "503 where no endpoint can be reached; nginx says 502"),
        ("use", ".*", "an endpoint that fails live traffic", "dead|back"),
        ("own-field", "ratelimit|ratelimit-policy", "rejections by rate have Retry-After and RateLimit"),
        ("own-field", "www-authenticate", "The challenge says charset", "", r"charset=\\?\"UTF-8"),
        ("answer-field", "expires", "there is no Expires beside it", "", r", import \[\]$"),
        ("status", "0-403", "nginx closes the connection without an answer; here it is 403"),
    )

    def sources(self, folder):
        return [folder / "nginx.conf"]

    def included(self, folder):
        """What is configuration: `.conf`, and the other endings that files which are included have."""
        endings = {".conf", ".inc", ".map"}
        return sorted(path for path in folder.rglob("*") if path.suffix in endings and path.name != "nginx.conf")

    def adapt(self, text, site):
        text = replace(text, MACHINE)
        return replace(text, [
            (r"\blisten\s+(?:(?:\*|0\.0\.0\.0):)?(?=\d+[\s;])", f"listen {site.ours}:"),
            (r"\b((?:proxy_|grpc_)?ssl_certificate)\s[^;]*;", rf"\1 {site.crt};"),
            (r"\b((?:proxy_|grpc_)?ssl_certificate_key)\s[^;]*;", rf"\1 {site.key};"),
            (r"\b((?:proxy_|grpc_)?ssl_(?:client|trusted)_certificate)\s[^;]*;", rf"\1 {site.authority};"),
            (r"/var/cache/nginx", str(site.folder / "cache")),
        ])

    def start(self, files, environment, site):
        return Running(files[0], environment, site)


class Running(Original):
    """The file is read as it is, but for what nginx would write to the machine's own folders."""

    def __init__(self, file, environment, site):
        own = site.folder / "original"
        own.mkdir()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f" {kind}_temp_path {own / kind};" for kind in kinds)
        # Beside the source, as files that are included are looked for there.
        main = site.folder / "original.conf"
        text = re.sub(r"^(\s*http\s*\{)", rf"\1{paths}", file.read_text(), flags=re.MULTILINE)
        # One worker: the order of endpoints is that of one rotation. It reads what only the suite may read.
        self.log = own / "errors"
        head = f"daemon off;\nuser root;\nworker_processes 1;\npid {own / 'pid'};\nerror_log {self.log} notice;\n"
        main.write_text(head + text)
        words = ["/usr/sbin/nginx", "-e", self.log, "-c", main]
        self.process = stand.Process(words, env={**stand.os.environ, **environment}, cwd=site.folder)
        stand.until("nginx", self.works)

    def works(self):
        """Its sockets are open before its worker begins."""
        if self.process.child.poll() is not None:
            raise RuntimeError(f"nginx ended: {self.log.read_text()}{self.process.errors()}")
        return self.log.exists() and "start worker process " in self.log.read_text()

    def stop(self):
        # Killed, the master would leave its worker behind.
        self.process.stop(stand.signal.SIGTERM)
