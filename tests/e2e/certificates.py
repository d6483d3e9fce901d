"""Certificates for loopback, made with openssl: an authority of their own, and what it signs."""

import pathlib
import subprocess


def openssl(*args):
    ran = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"openssl {args}: {ran.stderr}"


class Authority:
    """Its certificate, as PEM, is `certificate`."""

    def __init__(self, folder, name="Weir tests"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key, self.certificate = self.folder / "ca.key", self.folder / "ca.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate)

    def sign(self, name, address="IP:127.0.0.1"):
        """A key and a certificate of it for an address: the paths of both."""
        key, request, certificate, extensions = (self.folder / f"{name}.{suffix}" for suffix in ("key", "csr", "pem", "ext"))
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions.write_text(f"subjectAltName={address}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", 2, "-extfile", extensions, "-out", certificate)
        return key, certificate

    def keystore(self, name):
        """The same in one file, as a broker wants it."""
        key, certificate = self.sign(name)
        both = self.folder / f"{name}-keystore.pem"
        both.write_text(key.read_text() + certificate.read_text())
        return both
