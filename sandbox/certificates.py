"""Keys and certificates of a local control plane, made on this machine and trusted by nothing outside it."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.state import write_private

VALID = timedelta(days=3650)
"""A sandbox is thrown away, not renewed."""


class Authority:
    """A certificate authority whose own certificate, and those that it issues, are files of one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = new_key(folder / f"{name}.key")
        self._name = _distinguished_name(name)
        public = self._key.public_key()
        certificate = (
            self._certificate(self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        write_certificate(folder / f"{name}.crt", certificate)

    def issue(self, file: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> None:
        """Issue a certificate for a user of Kubernetes and, where `hosts` are given, for a server under those names."""
        key = new_key(self._folder / f"{file}.key")
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = (
            self._certificate(_distinguished_name(user, groups), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
        write_certificate(self._folder / f"{file}.crt", builder.sign(self._key, hashes.SHA256()))

    def _certificate(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def new_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Make a private key, in a file that only the user may read."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    write_private(file, pem.decode())
    return key


def write_certificate(file: Path, certificate: x509.Certificate) -> None:
    """Write a certificate as PEM."""
    file.write_bytes(certificate.public_bytes(Encoding.PEM))


def _distinguished_name(user: str, groups: Sequence[str] = ()) -> x509.Name:
    """Kubernetes takes the common name for the user and organizations for groups."""
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
