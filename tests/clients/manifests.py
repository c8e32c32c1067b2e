"""What is handed out beside the binary and can be wrong without anyone noticing: the kustomizations of conf/kubernetes, as
kubectl builds them and the schemas of Kubernetes have them, and the bill of materials, as CycloneDX has it."""
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request

import kubernetes_validate
import stand
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

REPORT = stand.Report("manifests")
KUBERNETES = stand.ROOT / "conf" / "kubernetes"
KUBECTL = pathlib.Path(sys.executable).parent / "kubectl"
TARGET = "x86_64-unknown-linux-gnu"
UNITS = {"s": 1, "m": 60, "h": 3600}


def built(place):
    """The objects of a kustomization, by kind and name."""
    done = subprocess.run([KUBECTL, "kustomize", KUBERNETES / place], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{place}: {done.stderr}")
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}


def valid(place, objects):
    wrong = []
    for (kind, name), one in objects.items():
        try:
            kubernetes_validate.validate(one, "1.37", strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong.append(f"{kind} {name}: {error}")
    REPORT.check(f"{place} is what Kubernetes takes", len(objects) >= 3 and not wrong, wrong or f"{len(objects)} objects")


def container_of(pod):
    everyone = pod["containers"] + pod.get("initContainers", [])
    return next(one for one in everyone if one["name"] == "plimsoll")


def seconds(text):
    parts = re.findall(r"(\d+)([smh])", text)
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def pods(place, objects, settings):
    """What hangs together over several objects."""
    found = [one for (kind, _), one in objects.items() if kind == "Deployment" and has_us(one)]
    REPORT.equal(f"{place} has one deployment with us", len(found), 1)
    deployment = found[0]
    pod = deployment["spec"]["template"]["spec"]
    ours = container_of(pod)
    ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
    bound = {int(address.rsplit(":", 1)[1]) for listener in settings["listener"].values() for address in listener["bind"]}
    bound |= {int(address.rsplit(":", 1)[1]) for address in settings["health"]["bind"]}
    REPORT.check(f"{place}: every port of the container is bound", set(ports.values()) <= bound, f"{ports}, {sorted(bound)}")
    asked = {name: ours[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    health = {int(address.rsplit(":", 1)[1]) for address in settings["health"]["bind"]}
    good = asked["livenessProbe"]["path"] == "/livez" and asked["readinessProbe"]["path"] == "/readyz"
    REPORT.check(f"{place}: the kubelet asks the health listener", good and all(ports[one["port"]] in health for one in asked.values()), asked)
    security = pod.get("securityContext", {}) | ours["securityContext"]
    want = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    held = {name: security.get(name) for name in want}
    REPORT.equal(f"{place}: no root, no capability, nothing to write to", held, want)
    mounts = {mount["name"]: mount["mountPath"] for mount in ours["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    REPORT.check(f"{place}: every mount has its volume", set(mounts) <= set(volumes), mounts)
    maps = [volumes[name]["configMap"]["name"] for name in mounts if "configMap" in volumes[name]]
    REPORT.check(f"{place}: the configuration is mounted", maps and all(("ConfigMap", name) in objects for name in maps), maps)
    state = settings["process"].get("state_dir")
    REPORT.check(f"{place}: state has a place", state is None or state in mounts.values(), state)
    process = settings["process"]
    drain = seconds(process.get("drain_delay", "0s")) + seconds(process["drain_timeout"])
    grace = pod.get("terminationGracePeriodSeconds", 30)
    REPORT.check(f"{place}: a drain ends before the kubelet's patience", drain < grace, f"{drain} s of {grace} s")
    for (kind, name), one in objects.items():
        if kind == "Service":
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            chosen = one["spec"]["selector"].items() <= labels.items()
            targets = all(port["targetPort"] in ports for port in one["spec"]["ports"])
            REPORT.check(f"{place}: Service {name} leads to these pods and their ports", chosen and targets, one["spec"]["selector"])


def has_us(deployment):
    pod = deployment["spec"]["template"]["spec"]
    return any(one["name"] == "plimsoll" for one in pod["containers"] + pod.get("initContainers", []))


def certificate(folder):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = ["-subj", "/CN=edge", "-addext", "subjectAltName=DNS:edge.example", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run([*command, *files], check=True, capture_output=True)


def configuration(place, objects):
    """The configuration of a kustomization is valid as it is, and a process with it answers the kubelet's questions."""
    maps = [one for (kind, _), one in objects.items() if kind == "ConfigMap"]
    text = maps[0]["data"]["plimsoll.toml"]
    folder = stand.directory()
    certificate(folder)
    local = text.replace("/etc/plimsoll-tls", str(folder)).replace("/var/lib/plimsoll", str(folder / "state"))
    (folder / "state").mkdir()
    file = folder / "plimsoll.toml"
    file.write_text(local)
    done = subprocess.run([stand.BINARY, "check", "--config", file], capture_output=True, text=True, check=False)
    REPORT.check(f"{place}: the configuration is valid", done.returncode == 0 and "warning" not in done.stderr, done.stderr)
    settings = tomllib.loads(text)
    # The same with ports of this machine's that are free.
    places = {}
    for address in re.findall(r'"(?:0\.0\.0\.0|127\.0\.0\.1|\[::\]):(\d+)"', local):
        places.setdefault(address, stand.free_port())
    for address, port in places.items():
        local = local.replace(f', "[::]:{address}"', "").replace(f'0.0.0.0:{address}"', f'127.0.0.1:{port}"')
        local = local.replace(f'127.0.0.1:{address}"', f'127.0.0.1:{port}"')
    file.write_text(f'{local}\n[admin]\nbind = "127.0.0.1:{stand.free_port()}"\n')
    proxy = stand.Process([stand.BINARY, "run", "--config", file])
    port = places[settings["health"]["bind"][0].rsplit(":", 1)[1]]
    answers = {path: stand.until("an answer", lambda path=path: status(port, path)) for path in ("/livez", "/readyz")}
    # Where a pool that is required has no address yet, the pod is not ready.
    required = any(pool.get("required") for pool in settings["pool"].values())
    REPORT.equal(f"{place}: a process with it answers", answers, {"/livez": 200, "/readyz": 503 if required else 200})
    proxy.stop()
    return settings


def status(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def sidecar(objects):
    other = objects["Deployment", "other"]["spec"]["template"]["spec"]
    REPORT.check("a deployment that does not ask for it gets no sidecar", "initContainers" not in other and "volumes" not in other)
    ours = container_of(objects["Deployment", "shop"]["spec"]["template"]["spec"])
    REPORT.equal("the sidecar runs as long as its pod", ours["restartPolicy"], "Always")


def bill():
    """The bill says what is in the binary, no more and no less, with the checksums that Cargo.lock has."""
    text = subprocess.run([stand.ROOT / "packages" / "sbom", TARGET], capture_output=True, text=True, check=True).stdout
    REPORT.equal("the bill of materials is CycloneDX", JsonStrictValidator(SchemaVersion.V1_5).validate_str(text), None)
    told = json.loads(text)
    listed = {(one["name"], one["version"]) for one in told["components"]}
    # Another way to ask for the same, feature by feature.
    tree = ["cargo", "tree", "--locked", "--edges=normal,build", f"--target={TARGET}", "--prefix=none", "--no-dedupe", "--format={p}"]
    lines = subprocess.run(tree, cwd=stand.ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    want = {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line}
    own = told["metadata"]["component"]
    REPORT.equal("it lists what is built in, and nothing else", listed | {(own["name"], own["version"])}, want)
    absent = {"criterion", "proptest", "pingora-ketama"} & {name for name, _ in listed}
    REPORT.check("what only tests need is left out", len(listed) > 100 and not absent, f"{len(listed)} components")
    lock = tomllib.loads((stand.ROOT / "Cargo.lock").read_text())["package"]
    sums = {(one["name"], one["version"]): one.get("checksum") for one in lock}
    wrong = [one["bom-ref"] for one in told["components"] if one.get("hashes", [{}])[0].get("content") != sums[one["name"], one["version"]]]
    REPORT.equal("each has the checksum of Cargo.lock", wrong, [])
    bare = [one["bom-ref"] for one in told["components"] if not one.get("licenses")]
    REPORT.equal("and a licence", bare, [])
    refs = [one["bom-ref"] for one in told["components"]] + [own["bom-ref"]]
    graph = {one["ref"]: one["dependsOn"] for one in told["dependencies"]}
    loose = set(refs) - {ref for needed in graph.values() for ref in needed} - {own["bom-ref"]}
    REPORT.check("each is needed by another", set(graph) == set(refs) and not loose, sorted(loose))


if __name__ == "__main__":
    for kustomization in ("base", "overlays/edge", "overlays/sidecar"):
        made = built(kustomization)
        valid(kustomization, made)
        pods(kustomization, made, configuration(kustomization, made))
    sidecar(made)
    bill()
    REPORT.end()
