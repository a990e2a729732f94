"""The stand-in for pulumi-tls: keys, certificate requests and certificates."""

import base64
import datetime as dt
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from sandbox.providers.errors import ProviderError
from sandbox.providers.generated import Generated, GeneratedProvider
from sandbox.providers.provider import Problem
from sandbox.providers.wire import UNKNOWN, Properties

CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "P224": ec.SECP224R1,
    "P256": ec.SECP256R1,
    "P384": ec.SECP384R1,
    "P521": ec.SECP521R1,
}
ALGORITHMS = ("RSA", "ECDSA", "ED25519")

SUBJECT: Mapping[str, ObjectIdentifier] = {
    "commonName": NameOID.COMMON_NAME,
    "country": NameOID.COUNTRY_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "locality": NameOID.LOCALITY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "postalCode": NameOID.POSTAL_CODE,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "streetAddresses": NameOID.STREET_ADDRESS,
}

KEY_USES = {
    "digital_signature": "digital_signature",
    "content_commitment": "content_commitment",
    "key_encipherment": "key_encipherment",
    "data_encipherment": "data_encipherment",
    "key_agreement": "key_agreement",
    "cert_signing": "key_cert_sign",
    "crl_signing": "crl_sign",
    "encipher_only": "encipher_only",
    "decipher_only": "decipher_only",
}
"""Uses of a key, by the words of allowedUses."""

WRITE_ONLY = frozenset({"caPrivateKeyPemWo", "caPrivateKeyPemWoVersion", "privateKeyPemWo", "privateKeyPemWoVersion"})
"""Inputs that are to stay out of the state, which the stand-in does not see to."""

EXTENDED_USES: Mapping[str, ObjectIdentifier] = {
    "any_extended": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
}


class PrivateKey(Generated):
    """tls:index/privateKey:PrivateKey; the id is a hash of the public key."""

    type = "tls:index/privateKey:PrivateKey"
    computed = (
        "ecdsaCurve",
        "privateKeyOpenssh",
        "privateKeyPem",
        "privateKeyPemPkcs8",
        "publicKeyFingerprintMd5",
        "publicKeyFingerprintSha256",
        "publicKeyOpenssh",
        "publicKeyPem",
        "rsaBits",
    )
    confidential = frozenset({"privateKeyOpenssh", "privateKeyPem", "privateKeyPemPkcs8"})

    def problems(self, inputs: Properties) -> list[Problem]:
        found = super().problems(inputs)
        for key, known in (("algorithm", ALGORITHMS), ("ecdsaCurve", tuple(CURVES))):
            if key in inputs and inputs[key] not in (*known, UNKNOWN):
                found.append((key, f"must be one of {', '.join(known)}, not {inputs[key]}"))
        return found

    def generate(self, inputs: Properties) -> tuple[str, Properties]:
        curve, bits = inputs.get("ecdsaCurve", "P224"), inputs.get("rsaBits", 2048)
        match inputs["algorithm"]:
            case "RSA":
                key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
            case "ECDSA":
                key = ec.generate_private_key(CURVES[curve]())
            case _:
                key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        ssh = _openssh(public)
        traditional = (
            serialization.PrivateFormat.PKCS8
            if isinstance(key, ed25519.Ed25519PrivateKey)
            else serialization.PrivateFormat.TraditionalOpenSSL
        )
        outputs = {
            "ecdsaCurve": curve,
            "rsaBits": bits,
            "privateKeyPem": _private_pem(key, traditional),
            "privateKeyPemPkcs8": _private_pem(key, serialization.PrivateFormat.PKCS8),
            "privateKeyOpenssh": _private_pem(key, serialization.PrivateFormat.OpenSSH) if ssh else "",
            "publicKeyPem": public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ).decode(),
            "publicKeyOpenssh": f"{ssh}\n" if ssh else "",
            "publicKeyFingerprintMd5": _md5(ssh),
            "publicKeyFingerprintSha256": _sha256(ssh),
        }
        return hashlib.sha1(der).hexdigest(), outputs  # noqa: S324 — an id


class CertRequest(Generated):
    """tls:index/certRequest:CertRequest."""

    type = "tls:index/certRequest:CertRequest"
    unsupported = WRITE_ONLY
    computed = ("certRequestPem", "keyAlgorithm")

    def generate(self, inputs: Properties) -> tuple[str, Properties]:
        key = _private_key(inputs["privateKeyPem"], "privateKeyPem")
        builder = x509.CertificateSigningRequestBuilder(subject_name=_name(inputs.get("subject", {})))
        names = _alternative_names(inputs)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = builder.sign(key, _hash_for(key)).public_bytes(serialization.Encoding.PEM).decode()
        id = hashlib.sha1(pem.encode()).hexdigest()  # noqa: S324 — an id
        return id, {"certRequestPem": pem, "keyAlgorithm": _algorithm(key)}


class Certificate(Generated):
    """What the two kinds of certificates share: how long they are valid, and when they are due for renewal."""

    unsupported = WRITE_ONLY
    in_place = frozenset({"earlyRenewalHours"})

    def problems(self, inputs: Properties) -> list[Problem]:
        found = super().problems(inputs)
        known = {*KEY_USES, *EXTENDED_USES, UNKNOWN}
        uses = inputs.get("allowedUses", [])
        strange = sorted(set(uses) - known) if isinstance(uses, list) else []
        return [*found, *(("allowedUses", f"the stand-in does not know the use {use}") for use in strange)]

    def outdated(self, state: Properties, inputs: Properties) -> Properties:
        end = dt.datetime.fromisoformat(state["validityEndTime"])
        early = dt.timedelta(hours=inputs.get("earlyRenewalHours", 0))
        return {"readyForRenewal": True} if _now() >= end - early else {}

    def issue(self, inputs: Properties, unsigned: x509.CertificateBuilder, key: Any) -> tuple[str, Properties]:
        """The certificate for a subject and public key, signed with an issuer's key."""
        serial, start = x509.random_serial_number(), _now()
        end = start + dt.timedelta(hours=inputs["validityPeriodHours"])
        is_ca = inputs.get("isCaCertificate", False)
        length = inputs.get("maxPathLength", -1)
        builder = (
            unsigned.serial_number(serial)
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(
                x509.BasicConstraints(ca=is_ca, path_length=length if is_ca and length >= 0 else None), critical=True
            )
        )
        for extension, critical in _uses(inputs["allowedUses"]):
            builder = builder.add_extension(extension, critical=critical)
        pem = builder.sign(key, _hash_for(key)).public_bytes(serialization.Encoding.PEM).decode()
        outputs = {
            "certPem": pem,
            "readyForRenewal": False,
            "validityStartTime": start.isoformat(),
            "validityEndTime": end.isoformat(),
        }
        return str(serial), outputs


class SelfSignedCert(Certificate):
    """tls:index/selfSignedCert:SelfSignedCert; the id is the serial number."""

    type = "tls:index/selfSignedCert:SelfSignedCert"
    computed = ("certPem", "keyAlgorithm", "readyForRenewal", "validityEndTime", "validityStartTime")

    def generate(self, inputs: Properties) -> tuple[str, Properties]:
        key = _private_key(inputs["privateKeyPem"], "privateKeyPem")
        name = _name(inputs.get("subject", {}))
        builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        names = _alternative_names(inputs)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        if inputs.get("setSubjectKeyId") or inputs.get("isCaCertificate"):
            builder = builder.add_extension(own_id, critical=False)
        if inputs.get("setAuthorityKeyId"):
            issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id)
            builder = builder.add_extension(issuer, critical=False)
        id, outputs = self.issue(inputs, builder, key)
        return id, {**outputs, "keyAlgorithm": _algorithm(key)}


class LocallySignedCert(Certificate):
    """tls:index/locallySignedCert:LocallySignedCert; the id is the serial number."""

    type = "tls:index/locallySignedCert:LocallySignedCert"
    computed = ("caKeyAlgorithm", "certPem", "readyForRenewal", "validityEndTime", "validityStartTime")

    def generate(self, inputs: Properties) -> tuple[str, Properties]:
        request = x509.load_pem_x509_csr(inputs["certRequestPem"].encode())
        authority: Any = x509.load_pem_x509_certificate(inputs["caCertPem"].encode())
        key = _private_key(inputs["caPrivateKeyPem"], "caPrivateKeyPem")
        if key.public_key() != authority.public_key():
            raise ProviderError("caPrivateKeyPem is not the key of caCertPem")
        public = request.public_key()
        builder = x509.CertificateBuilder(
            issuer_name=authority.subject, subject_name=request.subject, public_key=public
        )
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if inputs.get("setSubjectKeyId") or inputs.get("isCaCertificate"):
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        id, outputs = self.issue(inputs, builder, key)
        return id, {**outputs, "caKeyAlgorithm": _algorithm(key)}


class TlsProvider(GeneratedProvider):
    """The stand-in for pulumi-tls."""

    title = "TLS"
    kinds = (PrivateKey, CertRequest, SelfSignedCert, LocallySignedCert)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _private_pem(key: Any, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _private_key(pem: str, name: str) -> Any:
    try:
        return serialization.load_pem_private_key(pem.encode(), password=None)
    except ValueError:
        raise ProviderError(f"{name} is no private key in PEM") from None


def _algorithm(key: Any) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePrivateKey) else "ED25519"


def _hash_for(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _openssh(public: Any) -> str:
    """The public key as OpenSSH writes it; empty where OpenSSH does not know the curve."""
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP224R1):
        return ""
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _md5(ssh: str) -> str:
    if not ssh:
        return ""
    digest = hashlib.md5(base64.b64decode(ssh.split()[1])).hexdigest()  # noqa: S324 — a fingerprint of old
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _sha256(ssh: str) -> str:
    if not ssh:
        return ""
    digest = hashlib.sha256(base64.b64decode(ssh.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _name(subject: Mapping[str, Any]) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(oid, value)
            for field, oid in SUBJECT.items()
            if field in subject
            for value in (subject[field] if isinstance(subject[field], list) else [subject[field]])
        ]
    )


def _alternative_names(inputs: Properties) -> list[x509.GeneralName]:
    return [
        *(x509.DNSName(name) for name in inputs.get("dnsNames", [])),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in inputs.get("ipAddresses", [])),
        *(x509.UniformResourceIdentifier(uri) for uri in inputs.get("uris", [])),
    ]


def _uses(allowed: Sequence[str]) -> list[tuple[x509.ExtensionType, bool]]:
    """The extensions that say what a key may be used for, and whether each is critical."""
    found: list[tuple[x509.ExtensionType, bool]] = []
    key_uses = {field: name in allowed for name, field in KEY_USES.items()}
    if any(key_uses.values()):
        found.append((x509.KeyUsage(**key_uses), True))
    extended = [oid for name, oid in EXTENDED_USES.items() if name in allowed]
    if extended:
        found.append((x509.ExtendedKeyUsage(extended), False))
    return found
