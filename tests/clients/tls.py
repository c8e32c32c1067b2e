"""TLS of listeners before real clients: curl and openssl s_client (names, ECDSA and RSA, resumption of both versions, client
certificates, a staple, renegotiation), sslyze with Mozilla's profiles, testssl.sh, clients that stand still or shake hands
all the time, and the examples in conf/ with certificates of their own."""
import concurrent.futures
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time

import origins
import stand

REPORT = stand.Report("tls")
FILES = stand.directory()


def check(name, holds, detail):
    """What a client said is of interest only where it is not what it should be."""
    REPORT.check(name, holds, "" if holds else detail)


def run(*arguments, data=b"", seconds=30):
    try:
        done = subprocess.run([str(a) for a in arguments], input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        return -1, (late.stdout or b"").decode(errors="replace"), "it did not end"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def openssl(*arguments):
    code, out, err = run("openssl", *arguments)
    if code != 0:
        raise RuntimeError(f"openssl {arguments}: {err}")
    return out


def authority(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
            "-subj", f"/CN={name}", "-keyout", FILES / f"{name}.key", "-out", FILES / f"{name}.pem")


def sign(by, file, subject, names, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
    """FILE.crt and FILE.key, signed by an authority."""
    extensions = FILES / f"{file}.ext"
    # With an extension at least, for a certificate without is one of X.509 version 1, which nobody accepts any more.
    listed = f"subjectAltName = {','.join('DNS:' + name for name in names)}\n" if names else ""
    # testssl.sh wants to be told where revoked ones are listed.
    extensions.write_text("basicConstraints = CA:FALSE\ncrlDistributionPoints = URI:http://ca.test/ca.crl\n" + listed)
    openssl("req", "-new", "-newkey", *key, "-nodes", "-subj", subject,
            "-keyout", FILES / f"{file}.key", "-out", FILES / f"{file}.csr")
    openssl("x509", "-req", "-in", FILES / f"{file}.csr", "-CA", FILES / f"{by}.pem", "-CAkey", FILES / f"{by}.key",
            "-CAcreateserial", "-days", "89", "-extfile", extensions, "-out", FILES / f"{file}.crt")


def listed(file, more=""):
    return f'{{ cert = "{FILES / file}.crt", key = "{FILES / file}.key"{more} }}'


def listener(certificates, more=""):
    return f"tls = {{ certificates = [{', '.join(certificates)}]{more} }}\n"


def client(port, *arguments, name="a.test", data=b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"):
    """What openssl s_client shows of one request."""
    code, out, err = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name,
                         "-CAfile", FILES / "ca.pem", "-verify_return_error", "-ign_eof", *arguments, data=data)
    return code, out + err


def curl(proxy, name, *arguments):
    code, out, err = run("curl", "-sS", "-m", "10", "--cacert", FILES / "ca.pem", "--resolve", f"{name}:{proxy.port}:127.0.0.1",
                         *arguments, f"https://{name}:{proxy.port}/small")
    return code, out or err


def names(proxy):
    for version in ["1.2", "1.3"]:
        code, out = curl(proxy, "a.test", f"--tlsv{version}", "--tls-max", version)
        check(f"curl TLS {version}", code == 0, out)
    for name, good in [("b.w.test", True), ("exact.w.test", True), ("a.b.w.test", False), ("unknown.test", False)]:
        code, out = curl(proxy, name)
        REPORT.equal(f"curl to {name} verifies", code == 0, good)
    _, out = client(proxy.port, name="exact.w.test")
    check("exact before wildcard", "CN = exact" in out, out[:300])
    for version in ["-tls1_2", "-tls1_3"]:
        _, out = client(proxy.port, version)
        check(f"ECDSA where the client can, {version}", "signature type: ECDSA" in out, out[-900:])
        rsa = ["-sigalgs", "RSA-PSS+SHA256"] if version == "-tls1_3" else ["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]
        _, out = client(proxy.port, version, *rsa)
        check(f"RSA where it cannot, {version}", "signature type: RSA" in out, out[-900:])
    for version in ["-tls1", "-tls1_1"]:
        code, _ = client(proxy.port, version, "-cipher", "ALL:@SECLEVEL=0")
        REPORT.check(f"{version} is refused", code != 0)


def resumption(one, other, stranger):
    for version in ["-tls1_2", "-tls1_3"]:
        session = FILES / f"session{version}"
        _, out = client(one.port, version, "-sess_out", session)
        check(f"{version}: a full handshake first", "New, TLSv1" in out and "HTTP/1.1 200" in out, out[-600:])
        for node, reused in [("the same", True), ("another with its keys", True), ("one without", False)]:
            to = {"the same": one, "another with its keys": other, "one without": stranger}[node]
            _, out = client(to.port, version, "-sess_in", session)
            REPORT.equal(f"{version}: resumed at {node}", "Reused, TLSv1" in out, reused)


def clients(required, requested):
    with_own = ["-cert", FILES / "alice.crt", "-key", FILES / "alice.key"]
    for version in ["-tls1_2", "-tls1_3"]:
        for proxy, shown, good in [(required, True, True), (required, False, False), (requested, True, True), (requested, False, True)]:
            _, out = client(proxy.port, version, *(with_own if shown else []))
            case = f"{version}: {'required' if proxy is required else 'requested'}, {'shown' if shown else 'not shown'}"
            REPORT.equal(case, "HTTP/1.1 200" in out, good)
        _, out = client(required.port, version)
        check(f"{version}: the client learns why", re.search("alert (certificate|handshake)", out) is not None, out[-400:])
        _, out = client(required.port, version, "-cert", FILES / "mallory.crt", "-key", FILES / "mallory.key")
        REPORT.check(f"{version}: a stranger's certificate is refused", "HTTP/1.1 200" not in out)
    ours = lambda: [r for r in required.records() if r["client_cert"] == "CN=alice,O=Example"]
    record = stand.until("the records", ours)[0]
    shown = openssl("x509", "-in", FILES / "alice.crt", "-noout", "-fingerprint", "-sha256").strip().split("=")[1]
    REPORT.equal("the log has the client's fingerprint", record["client_cert_sha256"], shown.replace(":", "").lower())


def staple(proxy):
    _, out = client(proxy.port, "-status")
    check("an OCSP answer is stapled", "OCSP Response Status: successful" in out, out[:300])


def renegotiation(proxy):
    """Asks for new keys in the middle of a connection, as openssl does when it is told R."""
    asks = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-servername", "a.test", "-tls1_2"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    asks.stdin.write(b"R\n")
    asks.stdin.flush()
    try:
        asks.wait(10)
    except subprocess.TimeoutExpired:
        asks.kill()
    out = asks.stdout.read().decode(errors="replace")
    refused = "RENEGOTIATING" in out and "no renegotiation" in out
    check("a renegotiation ends the connection", refused and asks.returncode > 0, out[-400:])


def sslyze(proxy, profile, name):
    code, out, err = run(sys.executable, "-m", "sslyze", f"--mozilla_config={profile}", "--sni=a.test",
                         f"127.0.0.1:{proxy.port}", seconds=60)
    verdict = out.split("COMPLIANCE AGAINST", 1)[-1]
    complaints = re.findall(r"^ +\* (.*)$", verdict, re.MULTILINE)
    # The authority is this test's own.
    complaints = [line for line in complaints if "certificate_path_validation" not in line]
    check(f"sslyze: Mozilla {profile}, {name}", "COMPLIANCE" in out and not complaints, err or "; ".join(complaints))
    attack = re.search(r"Client Renegotiation DoS Attack: +(.*)", out)
    REPORT.check(f"sslyze: renegotiation, {name}", attack is None or "OK" in attack[1], attack and attack[1])


def testssl(proxy):
    """Everything but every single cipher and the simulations of old clients, which find nothing and take a minute."""
    file = FILES / "testssl.json"
    # It takes most of the time of this suite, and none of its processors.
    checks = ["--protocols", "--std", "--fs", "--server-preference", "--server-defaults", "--headers", "--vulnerable"]
    _, out, err = run("testssl", "--quiet", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1", "--color", "0",
                      "--add-ca", FILES / "ca.pem", "--jsonfile", file, *checks, f"a.test:{proxy.port}", seconds=120)
    findings = json.loads(file.read_text()) if file.exists() else []
    REPORT.check("testssl.sh comes to its end", len(findings) > 80, f"{len(findings)} findings" if findings else out + err)
    # WARN says that testssl.sh itself could not find out.
    above_low = [f"{one['id']}: {one['finding']}" for one in findings if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL")]
    REPORT.equal("testssl.sh finds nothing above low", above_low, [])


def protocols(proxy):
    for offered, want in [(["--http2"], "2"), (["--http1.1"], "1.1"), (["--no-alpn"], "1.1")]:
        _, out = curl(proxy, "a.test", *offered, "-o", "/dev/null", "-w", "%{http_version}")
        REPORT.equal(f"curl {offered[0]} speaks HTTP/{want}", out, want)


def handshakes_all_the_time(proxy):
    """One who is connected is served while others do nothing but connect, each time by a full handshake."""
    context = ssl.create_default_context(cafile=FILES / "ca.pem")
    stays = http.client.HTTPSConnection("a.test", proxy.port, timeout=10, context=context)
    stays.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", proxy.port), 10), server_hostname="a.test")
    until, slowest, asked = time.monotonic() + 3, 0.0, 0
    with concurrent.futures.ThreadPoolExecutor(3) as others:
        attackers = [others.submit(run, "openssl", "s_time", "-connect", f"127.0.0.1:{proxy.port}", "-new", "-time", "3")
                     for _ in range(3)]
        while time.monotonic() < until:
            since = time.monotonic()
            stays.request("GET", "/small", headers={"Host": "a.test"})
            answer = stays.getresponse()
            answer.read()
            asked, slowest = asked + 1, max(slowest, time.monotonic() - since)
            if answer.status != 200:
                break
        made = [re.search(r"^(\d+) connections in", attacker.result()[1], re.MULTILINE) for attacker in attackers]
    made = sum(int(one[1]) for one in made if one)
    REPORT.check("who is connected is served during a storm of handshakes", answer.status == 200 and made > 100 and slowest < 1,
                 f"{asked} requests, the slowest in {slowest * 1000:.0f} ms, during {made} handshakes")


def examples():
    """conf/ as it stands, with files where it wants them."""
    for example in ["tls-edge", "sni"]:
        text = (stand.ROOT / "conf" / f"{example}.toml").read_text().replace("/etc/plimsoll/tls/", f"{FILES}/conf/")
        (FILES / "conf").mkdir(exist_ok=True)
        for name in set(re.findall(rf"{FILES}/(conf/[\w.-]+)\.key\"", text)):
            rsa = ("rsa:2048",) if ".rsa" in name else ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
            host = re.sub(r"^conf/(wildcard(?=\.))?|\.(ecdsa|rsa)$", lambda found: "*" if found[1] else "", name)
            sign("ca", name, f"/CN={host}", [host], rsa)
            (FILES / f"{name}.crt").rename(FILES / f"{name}.pem")
        for name in re.findall(rf"{FILES}/conf/([\w-]+-ca\.\w+)\"", text):
            (FILES / "conf" / name).write_bytes((FILES / "ca.pem").read_bytes())
        (FILES / "conf" / "ticket.keys").write_text("k" * 40 + "\n")
        ocsp(FILES / "conf" / "example.com.ecdsa.pem", FILES / "conf" / "example.com.ecdsa.ocsp")
        file = FILES / f"{example}.toml"
        file.write_text(text)
        code, out, err = run(stand.BINARY, "check", "--config", file)
        check(f"conf/{example}.toml is accepted", code == 0 and "is valid" in out, out + err)


def ocsp(certificate, file):
    """An OCSP answer that says that a certificate is good."""
    if certificate.exists():
        serial = openssl("x509", "-in", certificate, "-noout", "-serial").strip().split("=")[1]
        (FILES / "index").write_text(f"V\t401231235959Z\t\t{serial}\tunknown\t/CN=any\n")
        openssl("ocsp", "-index", FILES / "index", "-CA", FILES / "ca.pem", "-rsigner", FILES / "ca.pem", "-rkey", FILES / "ca.key",
                "-issuer", FILES / "ca.pem", "-cert", certificate, "-ndays", "3", "-respout", file, "-noverify")


def stands_still(proxy):
    """Nothing, half a hello, and no hello at all."""
    for what, begun in [("silence", b""), ("half a hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), ("HTTP", b"GET / HTTP/1.1\r\n\r\n")]:
        since = time.monotonic()
        with socket.create_connection(("127.0.0.1", proxy.port), 10) as stream:
            stream.sendall(begun)
            try:
                while stream.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        took = time.monotonic() - since
        REPORT.check(f"{what} is cut off", took < 3, f"{took:.1f} s")
    timeouts = lambda: [r["end"] for r in proxy.records()].count("tls_timeout") == 2
    REPORT.check("and the log says why", stand.until("the records", timeouts))


def main():
    authority("ca")
    authority("clients")
    sign("ca", "first", "/CN=ecdsa", ["a.test"])
    sign("ca", "rsa", "/CN=rsa", ["a.test"], key=("rsa:2048",))
    sign("ca", "wild", "/CN=wild", ["*.w.test"])
    sign("ca", "exact", "/CN=exact", ["exact.w.test"])
    sign("clients", "alice", "/O=Example/CN=alice", [])
    sign("ca", "mallory", "/CN=mallory", [])
    (FILES / "tickets").write_text("k" * 40 + "\n")
    ocsp(FILES / "first.crt", FILES / "first.ocsp")
    origin = origins.python_origin()
    all_names = [listed("first", f', ocsp = "{FILES / "first.ocsp"}"'), listed("rsa"), listed("wild"), listed("exact")]
    tickets = f', ticket_keys = "{FILES / "tickets"}"'
    own = stand.Proxy([origin], listener=listener(all_names) + 'timeouts = { tls_handshake = "1s" }\n')
    one, other = (stand.Proxy([origin], listener=listener(all_names, tickets)) for _ in range(2))
    ca = f', client_ca = "{FILES / "clients.pem"}"'
    required = stand.Proxy([origin], listener=listener([listed("first")], ca))
    requested = stand.Proxy([origin], listener=listener([listed("first")], ca + ', client_auth = "request"'))
    modern = stand.Proxy([origin], listener=listener([listed("first")], ', min_version = "1.3"'))
    # What pages say of themselves is theirs to say; here the route says it, for testssl.sh to see.
    headers = '{ set = { strict-transport-security = "max-age=31536000", x-frame-options = "DENY" } }'
    site = stand.Proxy([origin], listener=listener(all_names),
                       text=f'[[route]]\nhost = "a.test"\npool = "main"\nresponse_headers = {headers}\n')
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        scan = aside.submit(testssl, site)
        all_but_testssl(own, one, other, required, requested, modern)
        scan.result()
    REPORT.end()


def all_but_testssl(own, one, other, required, requested, modern):
    examples()
    names(own)
    protocols(own)
    resumption(one, other, own)
    clients(required, requested)
    staple(own)
    renegotiation(own)
    stands_still(own)
    handshakes_all_the_time(own)
    sslyze(own, "intermediate", "the defaults")
    sslyze(modern, "modern", "TLS 1.3 alone")


main()
