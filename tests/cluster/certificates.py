"""Certificates as cert-manager would issue them: one authority and one certificate per service."""

from datetime import timedelta

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mesh_common.clock import utc_now
from mesh_common.grpc.edges import SERVICES

from cluster.kubectl import Object


def tls_secrets(release: str = "mesh") -> str:
    """A Secret of type kubernetes.io/tls for each service, as JSON documents for kubectl."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("mesh test authority", authority_key, "mesh test authority", authority_key, is_ca=True)
    secrets = [_secret(f"{release}-{service}-tls", service, authority_key, authority) for service in SERVICES]
    return orjson.dumps({"apiVersion": "v1", "kind": "List", "items": secrets}).decode()


def _secret(name: str, service: str, authority_key: ec.EllipticCurvePrivateKey, authority: x509.Certificate) -> Object:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(service, key, "mesh test authority", authority_key, is_ca=False)
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    data = {"tls.crt": _pem(certificate), "tls.key": pem.decode(), "ca.crt": _pem(authority)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "stringData": data,
    }


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(minutes=5))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
