"""TLS to real servers: Debian's nginx (client certificates, TLS 1.2 and 1.3, sessions, large bodies both ways) and openssl
s_server (which shows what it was asked), with certificates that openssl made. A minute at most."""
import concurrent.futures
import hashlib
import http.client
import os

import stand
from certificates import NAME, Files

LARGE = 8 << 20


class Nginx(stand.Process):
    """An origin that demands client certificates, and says what it saw of TLS."""

    def __init__(self, files, protocols):
        self.port, folder = stand.free_port(), stand.directory()
        (folder / "large").write_bytes(os.urandom(LARGE))
        self.large = hashlib.sha256((folder / "large").read_bytes()).hexdigest()
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
            "events { worker_connections 256; }\nhttp { access_log off; client_body_temp_path /tmp;\n"
            f"  client_max_body_size 1g; keepalive_requests 100000;\n  server {{ listen 127.0.0.1:{self.port} ssl;\n"
            f"  ssl_certificate {files / 'server.crt'}; ssl_certificate_key {files / 'server.key'};\n"
            f"  ssl_client_certificate {files / 'ca.pem'}; ssl_verify_client on; ssl_protocols {protocols};\n"
            "  ssl_session_cache shared:s:1m; ssl_session_tickets on;\n"
            "  location / { return 200 '$ssl_protocol $ssl_server_name $ssl_client_verify $ssl_session_reused $connection'; }\n"
            "  location /closing { keepalive_timeout 0;\n"
            "    return 200 '$ssl_protocol $ssl_server_name $ssl_client_verify $ssl_session_reused $connection'; }\n"
            f"  location /large {{ root {folder}; }}\n"
            "} }\n"
        )
        super().__init__(["/usr/sbin/nginx", "-c", config, "-p", folder])
        stand.until("nginx", lambda: stand.accepts(self.port))


def ours(files):
    return f"cert = \"{files / 'client.crt'}\"", f"key = \"{files / 'client.key'}\""


def get(proxy, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def failures(proxy):
    """Failed handshakes by reason."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.admin, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    found = [line for line in lines if line.startswith("plimsoll_pool_tls_failures_total{")]
    counts = {line.split('reason="')[1].split('"')[0]: int(float(line.rsplit(" ", 1)[1])) for line in found}
    return {reason: count for reason, count in counts.items() if count}


def through_nginx(report, files, protocols):
    nginx = Nginx(files, protocols)
    proxy = stand.Proxy([nginx.port], pool=files.pool(*ours(files)), process="workers = 1")
    want = "TLSv1.2" if protocols == "TLSv1.2" else "TLSv1.3"
    status, body = get(proxy)
    report.equal(f"nginx by {want}: verified, named and certified", (status, body.decode().split()[:3]),
                 (200, [want, NAME, "SUCCESS"]))
    connections = {get(proxy)[1].split()[-1] for _ in range(50)}
    report.equal(f"nginx by {want}: 50 requests on one connection", len(connections), 1)
    resumed = [get(proxy, "/closing")[1].decode().split()[3] for _ in range(10)]
    report.check(f"nginx by {want}: new connections resume sessions", resumed[1:].count("r") >= 8, resumed)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sums = set(pool.map(lambda _: hashlib.sha256(get(proxy, "/large")[1]).hexdigest(), range(16)))
    report.equal(f"nginx by {want}: 16 times {LARGE >> 20} MiB arrive as they are", sums, {nginx.large})
    proxy.stop()

    # nginx takes the handshake and answers 400 where no certificate was shown: that is its answer, not a failure.
    proxy = stand.Proxy([nginx.port], pool=files.pool())
    report.equal(f"nginx by {want}: it says itself that it wants a certificate", get(proxy)[0], 400)
    proxy.stop()
    proxy = stand.Proxy([nginx.port], pool=files.pool(*ours(files), name="other.test"))
    report.equal(f"nginx by {want}: another name is refused", (get(proxy)[0], set(failures(proxy))), (503, {"wrong_name"}))
    proxy.stop()
    proxy = stand.Proxy([nginx.port], pool=files.pool(*ours(files)) + "health = { interval = \"100ms\" }\n")
    pool = proxy.ask("/v1/pools/main")
    report.check(f"nginx by {want}: probes have the pool's TLS", pool["endpoints"][0]["usable"], pool)
    proxy.stop()
    nginx.stop()


class Server(stand.Process):
    """openssl s_server, which answers every GET with what it knows of the connection."""

    def __init__(self, files, *more):
        self.port = stand.free_port()
        super().__init__(["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", files / "server.crt", "-key",
                          files / "server.key", "-www", "-alpn", "http/1.1", *more])
        stand.until("s_server", lambda: stand.accepts(self.port))


def through_openssl(report, files):
    for version in ("-tls1_2", "-tls1_3"):
        server = Server(files, version, "-CAfile", files / "ca.pem", "-Verify", "1", "-verify_return_error")
        proxy = stand.Proxy([server.port], pool=files.pool(*ours(files)), process="workers = 1")
        status, body = get(proxy)
        report.equal(f"s_server {version}: a page", (status, b"Ciphers supported" in body or b"New, TLS" in body), (200, True))
        statuses = {get(proxy)[0] for _ in range(10)}
        report.equal(f"s_server {version}: ten more, each on a connection of its own", statuses, {200})
        proxy.stop()
        proxy = stand.Proxy([server.port], pool=files.pool() + 'retry = "off"\n')
        report.equal(f"s_server {version}: without a certificate of ours we are refused, by either",
                     (get(proxy)[0], failures(proxy)), (503, {"refused": 1}))
        report.check(f"s_server {version}: and the log says why", stand.until(
            "a line", lambda: "the endpoint refused" in proxy.errors()), "")
        proxy.stop()
        server.stop()
    server = Server(files, "-tls1_2")
    proxy = stand.Proxy([server.port], pool=files.pool('min_version = "1.3"') + 'retry = "off"\n')
    report.equal("s_server -tls1_2: too old where 1.3 is wanted", (get(proxy)[0], failures(proxy)), (503, {"refused": 1}))
    proxy.stop()
    # A tcp listener: the client's HTTP goes on by TLS as it is.
    proxy = stand.Proxy([server.port], protocol="tcp", pool=files.pool())
    report.equal("s_server: a plain tcp session goes on by TLS", get(proxy)[0], 200)
    proxy.stop()
    server.stop()


def main():
    report, files = stand.Report("tls_out"), Files()
    for protocols in ("TLSv1.2", "TLSv1.2 TLSv1.3"):
        through_nginx(report, files, protocols)
    through_openssl(report, files)
    report.end()


if __name__ == "__main__":
    main()
