"""The engine's own encryption by a passphrase, in the form that stack files have: AES-GCM, tagged with a version."""

import base64
import hashlib
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ITERATIONS = 1_000_000
PROOF = "pulumi"
"""What the engine decrypts to see whether a passphrase is the right one."""


class Encryption:
    """Encrypts values for one stack; `salt` is its stack file's `encryptionsalt`, if it has one already."""

    def __init__(self, passphrase: str, salt: str | None = None) -> None:
        raw = base64.b64decode(salt.split(":")[1]) if salt else os.urandom(8)
        self._cipher = AESGCM(hashlib.pbkdf2_hmac("sha256", passphrase.encode(), raw, ITERATIONS))
        self.salt = salt or f"v1:{_text(raw)}:{self.encrypt(PROOF)}"

    def encrypt(self, value: str) -> str:
        """What stands behind `secure:`."""
        nonce = os.urandom(12)
        return f"v1:{_text(nonce)}:{_text(self._cipher.encrypt(nonce, value.encode(), None))}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
