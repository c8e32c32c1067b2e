"""Real origins for the client suites: nginx, Python's http.server and Node, each with the same few paths: `/` says who
it is, POST `/echo` gives the body back, `/big/N` is N MiB."""
import http.server
import threading

import stand

BLOCK = bytes(range(256)) * 4096


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/big/"):
            count = int(self.path.split("/")[2])
            self.send_response(200)
            self.send_header("Content-Length", str(count << 20))
            self.end_headers()
            for _ in range(count):
                self.wfile.write(BLOCK)
            return
        self.reply(b"python")

    def do_HEAD(self):
        self.reply(b"python", head=True)

    def do_POST(self):
        self.reply(self.body())

    do_PUT = do_POST

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def reply(self, body, head=False):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A connection that the other side ended is no news."""


def python_origin():
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def node_origin(*arguments):
    port = stand.free_port()
    stand.Process(["node", stand.ROOT / "tests" / "node" / "origin.js", str(port), *arguments])
    stand.until("Node", lambda: stand.accepts(port))
    return port


def nginx_origin():
    port, files = stand.free_port(), stand.directory()
    (files / "index.html").write_bytes(b"nginx")
    (files / "big").mkdir()
    (files / "big" / "16").write_bytes(BLOCK * 16)
    files.chmod(0o755)
    config = files / "nginx.conf"
    config.write_text(
        f"daemon off; pid {files}/pid; error_log {files}/error.log; worker_processes 1;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; client_body_temp_path {files}/body; proxy_temp_path {files}/proxy;\n"
        f"  fastcgi_temp_path {files}/f; uwsgi_temp_path {files}/u; scgi_temp_path {files}/s;\n"
        f"  server {{ listen 127.0.0.1:{port} backlog=1024; root {files}; client_max_body_size 0;\n"
        "    keepalive_requests 1000000; location /small { return 200 \"small\"; } } }\n"
    )
    stand.Process(["/usr/sbin/nginx", "-c", config, "-p", files])
    stand.until("nginx", lambda: stand.accepts(port))
    return port
