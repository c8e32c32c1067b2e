"""HAProxy on either side of Plimsoll with PROXY v1 and v2, its probes and ours among them, and TLS clients led by SNI to HAProxies
that hold the certificates."""
import http.server
import socket
import ssl
import subprocess
import threading

import stand

report = stand.Report("proxy_protocol")
FILES = stand.directory()


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers with the fields that say who the client is."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        told = {name.lower(): value for name, value in self.headers.items()}
        body = "|".join(told.get(name, "-") for name in ("x-forwarded-for", "x-seen", "x-authority")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def origin():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    # Probes end with a reset.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def haproxy(frontend, server):
    """HAProxy with these options at its front and at its back; its port."""
    port = stand.free_port()
    file = FILES / f"haproxy-{port}.cfg"
    file.write_text(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n"
        f"frontend f\n  bind 127.0.0.1:{port} {frontend}\n"
        "  http-request set-header x-seen %[src]:%[src_port]\n"
        "  http-request set-header x-authority %[fc_pp_authority] if { fc_pp_authority -m found }\n"
        f"  default_backend b\nbackend b\n  server s {server}\n"
    )
    process = stand.Process(["/usr/sbin/haproxy", "-db", "-f", file])
    stand.until("HAProxy", lambda: stand.accepts(port))
    return port, process


def get(port, source="127.0.0.1", connection=None):
    """The body of an answer, and the address that was asked from."""
    with connection or socket.create_connection(("127.0.0.1", port), 5, (source, 0)) as stream:
        own = "%s:%d" % stream.getsockname()
        stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := stream.recv(4096):
            answer += part
    return answer.partition(b"\r\n\r\n")[2].decode(), own


def certificate(name):
    """A certificate and its key in one file, as HAProxy wants them."""
    key, cert = FILES / f"{name}.key", FILES / f"{name}.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         # It is no authority, though it signs itself: else it could not be a server's.
         "-addext", "basicConstraints=critical,CA:FALSE"],
        check=True, capture_output=True,
    )
    both = FILES / f"{name}.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return both, cert


def behind_haproxy(origin_port):
    listener = 'accept_proxy_protocol = true\ntrusted_proxies = ["127.0.0.1/32"]\n'
    ours = stand.Proxy([origin_port], listener=listener)
    for options in ("send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"):
        front, _ = haproxy("", f"127.0.0.1:{ours.port} {options}")
        body, own = get(front, "127.0.0.77")
        report.equal(f"behind HAProxy with {options} the client is known", body.split("|")[0], own.split(":")[0])
        record = stand.until("a record", lambda: [r for r in ours.records() if r["client"] == own])[-1]
        report.check("the log has both", record["peer"].startswith("127.0.0.1:"), str(record["peer"]))
    front, process = haproxy("", f"127.0.0.1:{ours.port} check inter 100ms send-proxy-v2 check-send-proxy")
    report.equal("HAProxy's LOCAL probes pass", get(front)[0].split("|")[0], "127.0.0.1")
    report.check("and go on passing", "is DOWN" not in process.errors(), process.errors())
    plain, _ = haproxy("", f"127.0.0.1:{ours.port}")
    report.check("without a header HAProxy gets no answer", "502" in raw_status(plain) or "503" in raw_status(plain))


def before_haproxy_by_tls(origin_port):
    """The header comes before the handshake, for traffic and for probes; HAProxy demands both."""
    both, cert = certificate("origin.example")
    back, _ = haproxy(f"accept-proxy ssl crt {both} alpn h2,http/1.1", f"127.0.0.1:{origin_port}")
    for version in ("v1", "v2"):
        for protocol in ("http1", "auto"):
            tls = f'tls = {{ server_name = "origin.example", ca = "{cert}" }}'
            pool = f'send_proxy = "{version}"\nprotocol = "{protocol}"\n{tls}\nhealth = {{ check = "http", interval = "100ms" }}\n'
            ours = stand.Proxy([back], pool=pool)
            probe = lambda: ours.ask("/v1/pools/main")["endpoints"][0]["probe"]
            report.check(f"and takes our probes, {version} and {protocol}", stand.until("a probe", lambda: probe()["state"] == "up"))
            for _ in range(3):
                body, own = get(ours.port, "127.0.0.76")
                report.equal(f"HAProxy behind TLS with {version} and {protocol} sees the client", body.split("|")[1], own)
            ours.stop()


def raw_status(port):
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return stream.recv(4096).split(b"\r\n")[0].decode()


def before_haproxy(origin_port):
    back, _ = haproxy("accept-proxy", f"127.0.0.1:{origin_port}")
    for version in ("v1", "v2"):
        for protocol in ("http", "tcp"):
            check = 'health = { check = "http", interval = "100ms" }' if protocol == "http" else ""
            ours = stand.Proxy([back], protocol, pool=f'send_proxy = "{version}"\n{check}\n')
            for _ in range(3):
                body, own = get(ours.port, "127.0.0.78")
                report.equal(f"HAProxy behind {protocol} with {version} sees the client", body.split("|")[1], own)
            if check:
                endpoint = ours.ask("/v1/pools/main")["endpoints"][0]
                report.equal(f"our LOCAL probes of {version} pass", endpoint["probe"]["state"], "up")
            ours.stop()


def led_by_name(origin_port):
    names, lines = ("one.example", "two.example"), []
    trusted = ssl.create_default_context()
    pools = ""
    for name in names:
        both, cert = certificate(name)
        trusted.load_verify_locations(cert)
        port, _ = haproxy(f"accept-proxy ssl crt {both}", f"127.0.0.1:{origin_port}")
        pool = name.split(".")[0]
        pools += f'[pool.{pool}]\nendpoints = ["127.0.0.1:{port}"]\nsend_proxy = "v2"\n'
        lines.append(f'[[route]]\nsni = "{name}"\npool = "{pool}"\n')
    plain = origin()
    ours = stand.Proxy([plain], "tcp", text="".join(lines) + pools)
    for name in names:
        stream = socket.create_connection(("127.0.0.1", ours.port), 5, ("127.0.0.79", 0))
        own = "%s:%d" % stream.getsockname()
        # The certificate is verified for the name, so that no other endpoint could have answered.
        body, _ = get(0, connection=trusted.wrap_socket(stream, server_hostname=name))
        report.equal(f"{name} comes to its own endpoint, with its client and its name", body, f"-|{own}|{name}")
    report.equal("what is no TLS comes to the listener's own pool", get(ours.port)[0], "-|-|-")


port = origin()
behind_haproxy(port)
before_haproxy(port)
before_haproxy_by_tls(port)
led_by_name(port)
report.end()
