"""The stand-ins for pulumi-random and pulumi-tls, asked over the provider protocol as the engine asks."""

import datetime as dt
import string
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict
from pulumi.runtime.proto import provider_pb2
from pulumi.runtime.rpc import UNKNOWN, is_rpc_secret

from sandbox.providers.errors import NotReadyError
from sandbox.providers.provider import Call, Comparison, Connection, Provider, Resource
from sandbox.providers.random import SPECIAL, RandomProvider
from sandbox.providers.tls import TlsProvider
from sandbox.providers.wire import Properties, from_struct, to_struct

PASSWORD = "random:index/randomPassword:RandomPassword"  # noqa: S105 — a type
KEY = "tls:index/privateKey:PrivateKey"
REQUEST = "tls:index/certRequest:CertRequest"
SELF_SIGNED = "tls:index/selfSignedCert:SelfSignedCert"
SIGNED = "tls:index/locallySignedCert:LocallySignedCert"


class Refused(Exception):  # noqa: N818 — it is what the engine would be told
    """An aborted call."""

    def __init__(self, message: str, metadata: Any = ()) -> None:
        super().__init__(message)
        self.metadata = metadata


class Connected:
    """One engine's connection to a stand-in, as far as a servicer looks at it."""

    def peer(self) -> str:
        return "engine"

    def abort(self, _: grpc.StatusCode, message: str) -> None:
        raise Refused(message)

    def abort_with_status(self, status: grpc.Status) -> None:
        raise Refused(status.details, status.trailing_metadata)


class Asked:
    """A stand-in, configured."""

    def __init__(self, provider: Provider, options: Properties | None = None) -> None:
        self._provider = provider
        self._context: Any = Connected()
        self._provider.Attach(SimpleNamespace(address="nowhere"), self._context)
        self._provider.Configure(provider_pb2.ConfigureRequest(args=to_struct(options or {})), self._context)

    def check(self, type: str, inputs: Properties) -> list[str]:
        """What is wrong with inputs."""
        request = provider_pb2.CheckRequest(urn=urn(type), news=to_struct(inputs))
        return [failure.reason for failure in self._provider.Check(request, self._context).failures]

    def create(self, type: str, inputs: Properties, *, preview: bool = False) -> Properties:
        """State of a new resource."""
        assert self.check(type, inputs) == []
        request = provider_pb2.CreateRequest(urn=urn(type), properties=to_struct(inputs), preview=preview)
        return from_struct(self._provider.Create(request, self._context).properties)

    def marked(self, type: str, inputs: Properties) -> set[str]:
        """Properties of a new resource that come back marked as secret."""
        request = provider_pb2.CreateRequest(urn=urn(type), properties=to_struct(inputs))
        properties = self._provider.Create(request, self._context).properties
        return {name for name, value in MessageToDict(properties).items() if is_rpc_secret(value)}

    def diff(self, type: str, olds: Properties, news: Properties, state: Properties) -> tuple[list[str], list[str]]:
        """What changes, and what of it replaces."""
        request = provider_pb2.DiffRequest(
            urn=urn(type), old_inputs=to_struct(olds), news=to_struct(news), olds=to_struct(state)
        )
        answer = self._provider.Diff(request, self._context)
        return list(answer.diffs), list(answer.replaces)

    def read(self, type: str, inputs: Properties, state: Properties) -> Properties:
        """State after a refresh."""
        request = provider_pb2.ReadRequest(id="x", urn=urn(type), inputs=to_struct(inputs), properties=to_struct(state))
        return from_struct(self._provider.Read(request, self._context).properties)


def urn(type: str) -> str:
    """A URN of a resource of a type."""
    return f"urn:pulumi:dev::pyairtable::pyairtable:compute:Compute${type}::it"


@pytest.fixture
def random() -> Asked:
    return Asked(RandomProvider(version="4"))


@pytest.fixture
def tls() -> Asked:
    return Asked(TlsProvider(version="5"))


# Passwords


def test_a_password_keeps_to_what_is_asked_for(random: Asked) -> None:
    inputs = {"length": 16, "minLower": 3, "minUpper": 3, "minNumeric": 3, "minSpecial": 3, "overrideSpecial": "-_"}
    for _ in range(20):
        password = random.create(PASSWORD, inputs)["result"]
        assert len(password) == 16
        for characters in (string.ascii_lowercase, string.ascii_uppercase, string.digits, "-_"):
            assert sum(character in characters for character in password) >= 3
        assert not set(password) & (set(SPECIAL) - set("-_"))


def test_classes_of_characters_can_be_turned_off(random: Asked) -> None:
    password = random.create(PASSWORD, {"length": 64, "special": False, "upper": False})["result"]
    assert set(password) <= set(string.ascii_lowercase + string.digits)


def test_a_password_is_unknown_before_it_is_made_and_stays_as_it_is(random: Asked) -> None:
    inputs = {"length": 16}
    assert random.create(PASSWORD, inputs, preview=True)["result"] == UNKNOWN
    state = random.create(PASSWORD, inputs)
    assert random.read(PASSWORD, inputs, state) == state
    assert random.diff(PASSWORD, inputs, inputs, state) == ([], [])
    assert random.create(PASSWORD, inputs)["result"] != state["result"]


@pytest.mark.parametrize("change", [{"length": 17}, {"keepers": {"version": "2"}}, {"special": False}])
def test_whatever_changes_makes_another_password(random: Asked, change: Properties) -> None:
    inputs = {"length": 16, "keepers": {"version": "1"}}
    changed = {**inputs, **change}
    assert random.diff(PASSWORD, inputs, changed, {**inputs, "result": "x"}) == (list(change), list(change))


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "needs length"),
        ({"length": 3, "minLower": 2, "minUpper": 2}, "must be at least 4"),
        ({"length": 0}, "must be at least 1"),
        (dict.fromkeys(("lower", "upper", "numeric", "special"), False) | {"length": 8}, "are turned off"),
        ({"length": 8, "specials": True}, "did you mean special?"),
    ],
)
def test_a_password_that_cannot_be_is_refused(random: Asked, inputs: Properties, reason: str) -> None:
    assert any(reason in failure for failure in random.check(PASSWORD, inputs))


def test_another_type_is_refused_by_name(random: Asked) -> None:
    with pytest.raises(Refused, match=r"checking random:index/randomPet:RandomPet it: the sandbox has no stand-in"):
        random.check("random:index/randomPet:RandomPet", {})


# Keys and certificates


@pytest.mark.parametrize(
    ("inputs", "kind", "begins"),
    [
        ({"algorithm": "RSA"}, rsa.RSAPrivateKey, "-----BEGIN RSA PRIVATE KEY-----"),
        ({"algorithm": "ECDSA", "ecdsaCurve": "P256"}, ec.EllipticCurvePrivateKey, "-----BEGIN EC PRIVATE KEY-----"),
        ({"algorithm": "ECDSA"}, ec.EllipticCurvePrivateKey, "-----BEGIN EC PRIVATE KEY-----"),
        ({"algorithm": "ED25519"}, ed25519.Ed25519PrivateKey, "-----BEGIN PRIVATE KEY-----"),
    ],
)
def test_keys_are_of_the_algorithm_and_form_asked_for(tls: Asked, inputs: Properties, kind: type, begins: str) -> None:
    state = tls.create(KEY, inputs)
    assert state["privateKeyPem"].startswith(begins)
    key = serialization.load_pem_private_key(state["privateKeyPem"].encode(), None)
    assert isinstance(key, kind)
    public = serialization.load_pem_public_key(state["publicKeyPem"].encode())
    assert public == key.public_key()


def test_nothing_of_a_key_is_known_before_it_is_made(tls: Asked) -> None:
    planned = tls.create(KEY, {"algorithm": "RSA"}, preview=True)
    assert planned.pop("algorithm") == "RSA"
    assert set(planned.values()) == {UNKNOWN}


def test_private_keys_and_passwords_are_marked_as_secret(tls: Asked, random: Asked) -> None:
    assert tls.marked(KEY, {"algorithm": "RSA"}) == {"privateKeyOpenssh", "privateKeyPem", "privateKeyPemPkcs8"}
    assert random.marked(PASSWORD, {"length": 16}) == {"result"}


def authority(tls: Asked) -> tuple[Properties, Properties]:
    """A key, and a certificate authority of that key."""
    key = tls.create(KEY, {"algorithm": "ECDSA", "ecdsaCurve": "P256"})
    certificate = {
        "privateKeyPem": key["privateKeyPem"],
        "isCaCertificate": True,
        "allowedUses": ["cert_signing", "crl_signing"],
        "validityPeriodHours": 87600,
        "subject": {"commonName": "pyairtable dev", "organization": "PyAirtable"},
    }
    return key, tls.create(SELF_SIGNED, certificate)


def test_an_authority_signs_a_certificate_for_a_server(tls: Asked) -> None:
    key, root = authority(tls)
    server = tls.create(KEY, {"algorithm": "RSA", "rsaBits": 2048})
    names = {"dnsNames": ["postgres", "postgres.pyairtable.svc"], "ipAddresses": ["10.0.0.1"]}
    request = tls.create(
        REQUEST, {"privateKeyPem": server["privateKeyPem"], "subject": {"commonName": "postgres"}, **names}
    )
    uses = ["digital_signature", "key_encipherment", "server_auth"]
    inputs = {
        "certRequestPem": request["certRequestPem"],
        "caPrivateKeyPem": key["privateKeyPem"],
        "caCertPem": root["certPem"],
        "allowedUses": uses,
        "validityPeriodHours": 8760,
    }
    state = tls.create(SIGNED, inputs)
    issuer = x509.load_pem_x509_certificate(root["certPem"].encode())
    certificate = x509.load_pem_x509_certificate(state["certPem"].encode())
    certificate.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(issuer)
    assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == names["dnsNames"]
    key_usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert key_usage.critical
    assert key_usage.value.digital_signature
    assert not key_usage.value.key_cert_sign
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == dt.timedelta(hours=8760)
    assert tls.diff(SIGNED, inputs, inputs, state) == ([], [])


def test_a_certificate_is_made_anew_when_it_is_due(tls: Asked) -> None:
    _, root = authority(tls)
    inputs = {key: root[key] for key in ("privateKeyPem", "isCaCertificate", "allowedUses", "validityPeriodHours")}
    due = {**inputs, "earlyRenewalHours": 87600}
    assert tls.diff(SELF_SIGNED, due, due, root) == (["readyForRenewal"], ["readyForRenewal"])
    soon = {**inputs, "earlyRenewalHours": 24}
    assert tls.diff(SELF_SIGNED, inputs, soon, root) == (["earlyRenewalHours"], [])
    longer = {**inputs, "validityPeriodHours": 100000}
    assert tls.diff(SELF_SIGNED, inputs, longer, root) == (["validityPeriodHours"], ["validityPeriodHours"])


def test_an_authority_needs_its_own_key(tls: Asked) -> None:
    _, root = authority(tls)
    other = tls.create(KEY, {"algorithm": "ECDSA", "ecdsaCurve": "P256"})
    request = tls.create(REQUEST, {"privateKeyPem": other["privateKeyPem"]})
    inputs = {
        "certRequestPem": request["certRequestPem"],
        "caPrivateKeyPem": other["privateKeyPem"],
        "caCertPem": root["certPem"],
        "allowedUses": [],
        "validityPeriodHours": 1,
    }
    with pytest.raises(Refused, match="caPrivateKeyPem is not the key of caCertPem"):
        tls.create(SIGNED, inputs)


@pytest.mark.parametrize(
    ("type", "inputs", "reason"),
    [
        (KEY, {"algorithm": "DSA"}, "must be one of RSA, ECDSA, ED25519, not DSA"),
        (KEY, {"algorithm": "ECDSA", "ecdsaCurve": "P192"}, "must be one of P224, P256, P384, P521, not P192"),
        (SELF_SIGNED, {"allowedUses": ["flying"], "validityPeriodHours": 1}, "does not know the use flying"),
        (REQUEST, {"privateKeyPemWo": "x"}, "does not do privateKeyPemWo"),
    ],
)
def test_what_tls_does_not_have_is_refused(tls: Asked, type: str, inputs: Properties, reason: str) -> None:
    assert any(reason in failure for failure in tls.check(type, inputs))


# What every stand-in does


class Stubborn(Provider):
    """A provider whose resources are made, and do not become ready."""

    title = "Stubborn"
    options = frozenset({"kubeconfig"})

    def connect(self, options: Properties) -> Connection:
        self.connected = options
        return StubbornResource


class StubbornResource(Resource):
    """One of them."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def compare(self, old_inputs: Properties, inputs: Properties, state: Properties) -> Comparison:
        raise RuntimeError("a mistake of the stand-in's own")

    def plan(self, inputs: Properties) -> Properties:
        return inputs

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        raise NotReadyError("it will not", "n/x", {"uid": "1"})

    def read(self, id: str, inputs: Properties, state: Properties) -> None:
        return None

    def plan_update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        return inputs

    def update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        return inputs

    def delete(self, id: str, inputs: Properties, state: Properties) -> None:
        pass


def test_the_engine_is_told_what_is_left_of_a_resource_that_does_not_become_ready() -> None:
    asked = Asked(Stubborn(version="1", hint=" (logs)"))
    with pytest.raises(Refused, match=r"creating stubborn:index:Thing it: it will not \(logs\)") as refused:
        asked.create("stubborn:index:Thing", {})
    ((name, details),) = refused.value.metadata
    assert name == "grpc-status-details-bin"
    assert b"pulumirpc.ErrorResourceInitFailed" in details
    assert b"n/x" in details


def test_a_mistake_of_a_stand_ins_own_says_so() -> None:
    with pytest.raises(
        Refused, match=r"comparing stubborn:index:Thing it: the stand-in itself failed with RuntimeError"
    ):
        Asked(Stubborn(version="1")).diff("stubborn:index:Thing", {}, {}, {})


def test_options_are_taken_out_of_the_marks_of_secrets() -> None:
    marked = struct_pb2.Struct()
    marked.update(
        {"kubeconfig": {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "x"}}
    )
    assert from_struct(marked) == {"kubeconfig": "x"}
