"""Mutual TLS between services, from three files in cert-manager's form.

The service token identifies the caller. The certificate proves that the peer is a process of the mesh and, to a client,
that it reached the intended service: it is issued to `DNS:<service>`, whatever the address is.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """PEM of a certificate with its chain, of its key, and of the authorities that verify other certificates."""

    certificate: bytes
    key: bytes
    authorities: bytes


@dataclass(frozen=True, slots=True)
class TlsFiles:
    certificate: Path
    key: Path
    authorities: Path

    def read(self) -> TlsMaterial:
        """Raises ValueError, also if the files do not belong together, e.g. while they are being replaced."""
        material = TlsMaterial(read_file(self.certificate), read_file(self.key), read_file(self.authorities))
        require_key_of(certificates_of(material.certificate), material.key)
        certificates_of(material.authorities)
        return material

    def version(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever a file changes. Kubernetes replaces all three at once, by a link. Raises OSError."""
        stats = [path.stat() for path in (self.certificate, self.key, self.authorities)]
        return tuple((stat.st_ino, stat.st_mtime_ns) for stat in stats)


@dataclass(frozen=True, slots=True)
class ChannelTls:
    """The TLS configuration of a channel to `callee`."""

    files: TlsFiles
    callee: str

    def options(self) -> tuple[tuple[str, str], ...]:
        # Targets are addresses or contain the release name, but the certificate names the service.
        return (("grpc.ssl_target_name_override", self.callee),)


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def certificates_of(pem: bytes) -> list[Certificate]:
    """At least one certificate. Raises ValueError."""
    try:
        return load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError("holds no certificate in PEM") from error


def require_key_of(certificates: list[Certificate], key_pem: bytes) -> None:
    """Raises ValueError unless `key_pem` is the private key of the first certificate."""
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without a cause, so that no part of a private key is ever repeated.
        raise ValueError("holds no unencrypted private key in PEM") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificates[0].public_key().public_bytes(*form):
        raise ValueError("is not the key of the certificate")
