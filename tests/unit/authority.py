# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certification authority for the tests of the probe."""

import pathlib
import ssl
import subprocess
import typing as t

HOST = "mail.example.test"


class Certificates:
    """A small CA, and servers' contexts with certificates from it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key")
        self.sign("ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
        self.ca = (folder / "ca.pem").read_text()

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=str(self.folder), check=True, stderr=subprocess.DEVNULL)

    def sign(self, name: str, *extensions: str, issuer: str = "", days: int = 60, key: str = "") -> None:
        if key or not (self.folder / f"{name}.key").exists():
            kind = ["genrsa", "-out"] if key else ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]
            self.openssl(*kind, f"{name}.key", *([key] if key else []))
        self.openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (self.folder / f"{name}.ext").write_text("\n".join(extensions))
        by = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial"] if issuer else []
        by += [] if issuer else ["-signkey", f"{name}.key"]
        command = ["x509", "-req", "-in", f"{name}.csr", "-days", str(days), "-extfile", f"{name}.ext"]
        self.openssl(*command, *by, "-out", f"{name}.pem")

    def server(self, name: str = HOST, chain: t.Sequence[str] = (), **how: t.Any) -> ssl.SSLContext:
        how.setdefault("issuer", "ca")
        self.sign("leaf", f"subjectAltName=DNS:{name}", "basicConstraints=CA:FALSE", **how)
        text = "".join((self.folder / f"{each}.pem").read_text() for each in ("leaf", *chain))
        (self.folder / "chain.pem").write_text(text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(self.folder / "chain.pem"), str(self.folder / "leaf.key"))
        return context
