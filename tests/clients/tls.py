"""TLS of listeners before real clients: curl and openssl s_client (names, ECDSA and RSA, resumption of both versions, client
certificates, a staple, renegotiation), sslyze with Mozilla's profiles, and clients that stand still."""
import re
import socket
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
    extensions.write_text("basicConstraints = CA:FALSE\n" + listed)
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
    stand.until("the records", lambda: any(r["client_cert"] == "CN=alice,O=Example" for r in required.records()))
    REPORT.check("the log names the client", True)


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
    serial = openssl("x509", "-in", FILES / "first.crt", "-noout", "-serial").strip().split("=")[1]
    (FILES / "index").write_text(f"V\t401231235959Z\t\t{serial}\tunknown\t/CN=ecdsa\n")
    openssl("ocsp", "-index", FILES / "index", "-CA", FILES / "ca.pem", "-rsigner", FILES / "ca.pem", "-rkey", FILES / "ca.key",
            "-issuer", FILES / "ca.pem", "-cert", FILES / "first.crt", "-ndays", "3", "-respout", FILES / "first.ocsp", "-noverify")
    origin = origins.python_origin()
    all_names = [listed("first", f', ocsp = "{FILES / "first.ocsp"}"'), listed("rsa"), listed("wild"), listed("exact")]
    tickets = f', ticket_keys = "{FILES / "tickets"}"'
    own = stand.Proxy([origin], listener=listener(all_names) + 'timeouts = { tls_handshake = "1s" }\n')
    one, other = (stand.Proxy([origin], listener=listener(all_names, tickets)) for _ in range(2))
    ca = f', client_ca = "{FILES / "clients.pem"}"'
    required = stand.Proxy([origin], listener=listener([listed("first")], ca))
    requested = stand.Proxy([origin], listener=listener([listed("first")], ca + ', client_auth = "request"'))
    modern = stand.Proxy([origin], listener=listener([listed("first")], ', min_version = "1.3"'))
    names(own)
    resumption(one, other, own)
    clients(required, requested)
    staple(own)
    renegotiation(own)
    stands_still(own)
    sslyze(own, "intermediate", "the defaults")
    sslyze(modern, "modern", "TLS 1.3 alone")
    REPORT.end()


main()
