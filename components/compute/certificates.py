"""Certificates: the stack's own certificate authority, and what the stores identify themselves with."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_tls as tls

from components.shared.stores import host
from infra.naming import Names

YEAR_HOURS = 365 * 24
AUTHORITY_HOURS = 10 * YEAR_HOURS
SERVER_HOURS = 2 * YEAR_HOURS
RENEW_BEFORE_HOURS = YEAR_HOURS
"""From when on the provider reports a certificate as due; `pulumi up --refresh` then replaces it."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A server's certificate and key, PEM."""

    certificate: pulumi.Output[str]
    key: pulumi.Output[str]


class Certificates(pulumi.ComponentResource):
    """A certificate authority of the stack's own, and a server certificate for each store."""

    authority: pulumi.Output[str]
    """PEM."""
    servers: Mapping[str, Certificate]

    def __init__(
        self, name: str, names: Names, services: tuple[str, ...], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pyairtable:compute:Certificates", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        key = tls.PrivateKey(f"{name}-authority-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        authority = tls.SelfSignedCert(
            f"{name}-authority",
            private_key_pem=key.private_key_pem,
            subject={"common_name": f"{names.prefix} stores"},
            is_ca_certificate=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=AUTHORITY_HOURS,
            opts=child,
        )
        self.authority = authority.cert_pem
        self.servers = {service: _server(f"{name}-{service}", service, key, authority, child) for service in services}
        self.register_outputs({"authority": self.authority})


def _server(
    name: str, service: str, key: tls.PrivateKey, authority: tls.SelfSignedCert, child: pulumi.ResourceOptions
) -> Certificate:
    own_key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
    request = tls.CertRequest(
        f"{name}-request",
        private_key_pem=own_key.private_key_pem,
        subject={"common_name": host(service)},
        dns_names=[host(service), service, "localhost"],
        opts=child,
    )
    certificate = tls.LocallySignedCert(
        f"{name}-certificate",
        cert_request_pem=request.cert_request_pem,
        ca_private_key_pem=key.private_key_pem,
        ca_cert_pem=authority.cert_pem,
        allowed_uses=["digital_signature", "key_encipherment", "server_auth"],
        validity_period_hours=SERVER_HOURS,
        early_renewal_hours=RENEW_BEFORE_HOURS,
        opts=child,
    )
    return Certificate(certificate=certificate.cert_pem, key=own_key.private_key_pem)
