"""What routes do beside sending requests on, by real clients: curl logs in with the files that htpasswd and openssl write,
is sent away by another service, and reads every coding, over HTTP/1 and HTTP/2."""
import http.server
import subprocess
import threading

import stand

REPORT = stand.Report("treatment")
PAGE = b"one line, and again one line\n" * 4000
KINDS = {"HTTP/1": "--http1.1", "HTTP/2": "--http2-prior-knowledge"}


class Origin(http.server.BaseHTTPRequestHandler):
    """A page; and as the service that is asked, a login page for whoever has no cookie."""

    protocol_version = "HTTP/1.1"
    seen = []

    def do_GET(self):
        self.seen.append((self.path, dict(self.headers)))
        refused = self.path == "/verify" and "cookie" not in self.headers
        body = b"" if self.path == "/verify" else PAGE
        self.send_response(302 if refused else 200)
        if refused:
            self.send_header("Location", "https://login.example/")
        self.send_header("Content-Type", "text/html")
        self.send_header("X-User", "anna")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "-m", "30", *arguments], capture_output=True, timeout=60, check=False)
    return done.stdout


def users():
    """A file as the usual programs write it."""
    file = stand.directory() / "users"
    subprocess.run(["htpasswd", "-cbB", file, "blow", "pass word"], check=True, capture_output=True)
    for kind, name in (("-apr1", "apache"), ("-5", "sha256"), ("-6", "sha512")):
        made = subprocess.run(["openssl", "passwd", kind, "pass word"], check=True, capture_output=True, text=True)
        with open(file, "a", encoding="ascii") as all_users:
            all_users.write(f"{name}:{made.stdout.strip()}\n")
    return file


def logins(url):
    for kind, option in KINDS.items():
        for name in ("blow", "apache", "sha256", "sha512"):
            right = curl(option, "-u", f"{name}:pass word", f"{url}/private")
            wrong = curl(option, "-o", "/dev/null", "-w", "%{http_code}", "-u", f"{name}:password", f"{url}/private")
            REPORT.equal(f"{kind}: {name} logs in", (right == PAGE, wrong), (True, b"401"))


def codings(url):
    for kind, option in KINDS.items():
        for coding in ("gzip", "br", "zstd", "deflate, gzip;q=0.9, br;q=0.1"):
            got = curl(option, "--compressed", "-H", f"Accept-Encoding: {coding}", f"{url}/page")
            small = curl(option, "-H", f"Accept-Encoding: {coding}", f"{url}/page")
            REPORT.check(f"{kind}: {coding} is read", got == PAGE and len(small) < len(PAGE) // 20, f"{len(small)} bytes")
        head = curl(option, "-I", "-H", "Accept-Encoding: br", f"{url}/page").decode().lower()
        REPORT.check(f"{kind}: HEAD says br", "content-encoding: br" in head and "vary: accept-encoding" in head, head)


def asked(url):
    for kind, option in KINDS.items():
        away = curl(option, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", f"{url}/asked")
        REPORT.equal(f"{kind}: sent to the login", away, b"302 https://login.example/")
        let_in = curl(option, "-b", "session=1", "-H", "X-User: root", f"{url}/asked")
        path, fields = Origin.seen[-1]
        REPORT.equal(f"{kind}: let in", (let_in == PAGE, path, fields.get("x-user")), (True, "/asked", "anna"))


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = (
        f'[[route]]\nname = "private"\npath = "/private"\npool = "main"\nbasic_auth = {{ users_file = "{users()}" }}\n'
        '[[route]]\nname = "page"\npath = "/page"\npool = "main"\ncompress = {}\n'
        '[[route]]\nname = "asked"\npath = "/asked"\npool = "main"\n'
        'forward_auth = { pool = "main", path = "/verify", response_headers = ["x-user"] }\n'
    )
    proxy = stand.Proxy([server.server_address[1]], listener="h2c = true", text=text)
    logins(proxy.url)
    codings(proxy.url)
    asked(proxy.url)
    REPORT.end()


main()
