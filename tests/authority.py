"""Certificates for the tests, made with openssl: an authority, what it signed, and a stranger."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """A certificate authority and what it signed: ca.pem, broker.pem, node.pem, stranger.pem and their keys."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        self.folder = folder
        folder.mkdir()
        self._openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem")
        self._openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout other.key -out other.pem")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        for name, signer in (("broker", "ca"), ("node", "ca"), ("stranger", "other")):
            self._openssl(f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
            sign = f"x509 -req -days 2 -in {name}.csr -CA {signer}.pem -CAkey {signer}.key -CAcreateserial"
            self._openssl(f"{sign} -extfile names -out {name}.pem")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _openssl(self, words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=self.folder, check=True, capture_output=True)
