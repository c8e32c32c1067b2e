"""An authority of a suite's own and what it has signed, made by openssl: a server and a client."""
import ssl
import subprocess

import stand

NAME = "api.test"


class Files:
    def __init__(self):
        self.folder = stand.directory()
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                     "-subj", "/CN=the authority", "-addext", "basicConstraints=critical,CA:TRUE",
                     "-keyout", "ca.key", "-out", "ca.pem")
        self.issue("server", ["-newkey", "rsa:2048"], f"subjectAltName=DNS:{NAME},IP:127.0.0.1")
        self.issue("client", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "extendedKeyUsage=clientAuth")

    def issue(self, name, key, extension):
        self.openssl("req", *key, "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (self.folder / f"{name}.ext").write_text(extension)
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                     "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.crt")

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def __truediv__(self, name):
        return self.folder / name

    def listener(self):
        """The key of a listener with TLS."""
        return f"tls = {{ certificates = [{{ cert = \"{self / 'server.crt'}\", key = \"{self / 'server.key'}\" }}] }}\n"

    def pool(self, *more, name=NAME):
        """The key of a pool whose endpoints have TLS."""
        keys = [f'server_name = "{name}"', f"ca = \"{self / 'ca.pem'}\"", *more]
        return f"tls = {{ {', '.join(keys)} }}\n"

    def client(self, *protocols):
        """What a client in Python connects with; it verifies."""
        context = ssl.create_default_context(cafile=str(self / "ca.pem"))
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def server(self, *protocols):
        """What a server in Python accepts with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self / "server.crt", self / "server.key")
        if protocols:
            context.set_alpn_protocols(protocols)
        return context
