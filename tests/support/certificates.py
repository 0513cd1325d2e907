"""A certificate authority of a test's own, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFE = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


class Authority:
    """``certificate``: the file that those trust who trust it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {directory.name}")])
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.certificate = self._write("ca.crt", made.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def sign(self, file_name: str, *names: str, usable: bool = True) -> Pair:
        """A pair for DNS names and addresses; ``usable`` False: its time is over."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        others = x509.SubjectAlternativeName([_general_name(name) for name in names])
        certificate = self._builder(subject, key, usable=usable).add_extension(others, False)
        return Pair(
            self._write(f"{file_name}.crt", certificate.sign(self._key, hashes.SHA256()).public_bytes(_PEM)),
            self._write(f"{file_name}.key", _key_bytes(key)),
        )

    def _builder(self, subject, key, *, usable=True) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _LIFE)
            .not_valid_after(now + (_LIFE if usable else -_LIFE / 2))
        )

    def _write(self, name: str, content: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path


def write_web_config(path: Path, pair: Pair, more: str = "", users: str = "") -> Path:
    """A web configuration with this certificate, put in the place of one that is there at once."""
    part = path.with_suffix(".new")
    part.write_text(f"tls_server_config: {{cert_file: {pair.certificate}, key_file: {pair.key}{more}}}\n{users}")
    part.chmod(0o600)
    part.replace(path)
    return path


_PEM = serialization.Encoding.PEM


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
