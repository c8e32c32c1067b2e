"""Requests for a configuration, from a seed: hosts, paths, fields, cookies and clients that it names, those near by, and
those that it does not name."""
import ipaddress
import random
import re

METHODS = ["GET"] * 8 + ["POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]


class Vocabulary:
    """What the text of a configuration speaks of; `more` is what a case adds."""

    def __init__(self, text, more):
        text = "\n".join(line.split("#")[0] for line in text.splitlines())
        hosts = re.findall(r"(?<![\w.\-/@])\*?\.?[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*\.(?:com|org|net|test|local|example)\b", text)
        self.hosts = sorted({self.whole(host) for host in hosts} | {"other.test"}) + more.get("hosts", [])
        files = r"/(?:etc|run|var|usr|dev|tmp|proc)/"
        paths = [path for path in re.findall(r"(?<![\w/:.\-\"\]}])\^?(/[A-Za-z0-9_.\-/]*)", text) if not re.match(files, path)]
        self.paths = sorted(set(paths) | {"/", "/other/page"}) + more.get("paths", [])
        self.fields = {name: list(values) for name, values in more.get("fields", {}).items()}
        self.cookies = {name: list(values) for name, values in more.get("cookies", {}).items()}
        self.queries = ["", "", "?a=1", "?b=2&a=x%20y"] + more.get("queries", [])
        networks = re.findall(r"(?<![\w.])(\d+\.\d+\.\d+\.\d+)/(\d+)", text)
        inside = {str(next(iter(ipaddress.ip_network(f"{a}/{b}", strict=False).hosts()))) for a, b in networks}
        inside = {address for address in inside if ipaddress.ip_address(address).packed[0] not in (0, 127, 224)}
        self.clients = sorted(inside) + ["192.0.2.7", "192.0.2.8", "192.0.2.9"] + more.get("clients", [])
        self.methods = METHODS + more.get("methods", [])
        self.answers = ["404", "500", "204"] + more.get("answers", [])
        self.bodies = more.get("bodies", [b""])

    @staticmethod
    def whole(host):
        return "sub" + host.lstrip("*") if host.startswith(("*", ".")) else host


class Request:
    """One request, and the door that it comes through."""

    def __init__(self, number, rng, words, doors):
        self.number = number
        self.door = rng.choice(doors)
        self.client = rng.choice(words.clients)
        self.host = rng.choice(words.hosts)
        path = rng.choice(words.paths)
        kind = rng.random()
        if kind < 0.3:
            path = path.rstrip("/") + "/" + rng.choice(["a", "b/c", "index.html", "style.css", "7"])
        elif kind < 0.4:
            path = path.rstrip("/") + rng.choice(["x", "/", "-more"])
        self.target = path + rng.choice(words.queries)
        self.method = rng.choice(words.methods)
        self.fields = [("x-case", str(number)), ("user-agent", "suite/1")]
        if rng.random() < 0.1:
            self.fields.append(("x-answer", rng.choice(words.answers)))
        for name, values in words.fields.items():
            if rng.random() < 0.5:
                self.fields.append((name, rng.choice(values)))
        # Told apart from those that the proxies set: these are sent as they are.
        self.cookies = {name: rng.choice(values) for name, values in words.cookies.items() if rng.random() < 0.4}
        self.body = b"" if self.method in ("GET", "HEAD", "DELETE", "OPTIONS") else b"x" * rng.choice([0, 10, 3000])

    def text(self):
        return f"{self.method} {self.host}{self.target} to {self.door.name} from {self.client}"

    def raw(self, jar):
        lines = [f"{self.method} {self.target} HTTP/1.1", f"host: {self.host}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        cookies = {**jar, **self.cookies}
        if cookies:
            lines.append("cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items()))
        if self.method in ("POST", "PUT", "PATCH") or self.body:
            lines.append(f"content-length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self.body


def generate(seed, count, words, doors):
    """`count` requests; the same seed gives the same ones."""
    rng = random.Random(seed)
    return [Request(number, rng, words, doors) for number in range(count)]
