"""Content Credentials (C2PA): a signed manifest in an exported file that says how the picture was made.

The extra `c2pa` installs the library; without certificate and key nothing is signed. Source: C2PA Technical
Specification 2.2, the assertion Actions and the chapter on trust.
"""

import io
import json
import os
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from PIL import Image

from toygan.errors import BadInput
from toygan.xmp import DIGITAL_SOURCE_TYPE

CERT_VARIABLE: Final = "TOYGAN_C2PA_CERT"
KEY_VARIABLE: Final = "TOYGAN_C2PA_KEY"
UNTRUSTED: Final = "signingCredential.untrusted"  # the library's code for: no trust list contains the CA
INSTALL: Final = "pip install 'toygan[c2pa]'"
# Without these settings the library adds a thumbnail of 200 kB, and reads manifests over the network.
_SETTINGS: Final = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "verify_after_sign": False},
}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The shop's certificate chain and private key in PEM, and the signature algorithm."""

    chain: bytes
    key: bytes
    algorithm: str  # a name of c2pa.C2paSigningAlg

    @property
    def digest(self) -> str:
        """The sha256 of the chain; it names the signer without the key."""
        return sha256(self.chain).hexdigest()

    def sign(self, data: bytes, mime: str, model: str, model_version: str) -> bytes:
        """Returns the file with a signed manifest. Safe to use from many threads.

        Two signatures of the same file differ. The manifest names the model and its version, and nothing from
        the catalog. Raises BadInput if the library refuses the certificate.
        """
        import c2pa

        action = {
            "action": "c2pa.created",
            "digitalSourceType": DIGITAL_SOURCE_TYPE,
            "softwareAgent": {"name": model, "version": model_version},
        }
        manifest = {
            "claim_generator_info": [{"name": "toygan", "version": version("toygan")}],
            "format": mime,
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        info = c2pa.C2paSignerInfo(self.algorithm.encode(), self.chain, self.key, None)
        signed = io.BytesIO()
        try:
            with (
                c2pa.Signer.from_info(info) as signer,
                c2pa.Context(c2pa.Settings.from_dict(_SETTINGS)) as context,
                c2pa.Builder(json.dumps(manifest), context) as builder,
            ):
                builder.sign(signer, mime, io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise _cannot_sign(" ".join(str(error).split())) from None
        return signed.getvalue()


def read_credentials() -> Credentials | None:
    """Returns the credentials of the two variables, or None if neither is set.

    Signs a small picture as a test, so that an unsuitable certificate is found before the export starts.
    Raises BadInput.
    """
    paths = {name: os.environ.get(name, "").strip() for name in (CERT_VARIABLE, KEY_VARIABLE)}
    if not any(paths.values()):
        return None
    for name, path in paths.items():
        if not path:
            raise BadInput(
                f"Content Credentials need both {CERT_VARIABLE} and {KEY_VARIABLE}; set {name}, too"
            )
    try:
        import c2pa  # noqa: F401
    except ImportError:
        raise BadInput(f"{CERT_VARIABLE} is set, but the library for it is missing; {INSTALL}") from None
    chain, key = (_read(name, path) for name, path in paths.items())
    credentials = Credentials(chain=chain, key=key, algorithm=_algorithm(key))
    probe = io.BytesIO()
    Image.new("RGB", (16, 16)).save(probe, "JPEG")
    signed = credentials.sign(probe.getvalue(), "image/jpeg", "probe", "0")
    content = read_manifest(signed, "image/jpeg") or {}
    problems = {each["code"] for each in content.get("validation_status", ())} - {UNTRUSTED}
    if problems:
        raise _cannot_sign(", ".join(sorted(problems)))
    return credentials


def read_manifest(data: bytes, mime: str) -> dict[str, Any] | None:
    """Returns a file's manifest store, read and checked by the library; None if the file has none.

    Raises ImportError without the library, and ValueError for a manifest that it cannot read.
    """
    import c2pa

    try:
        with c2pa.Context(c2pa.Settings.from_dict(_SETTINGS)) as context:
            reader = c2pa.Reader.try_create(mime, io.BytesIO(data), context=context)
            if reader is None:
                return None
            with reader:
                content: dict[str, Any] = json.loads(reader.json())
                return content
    except c2pa.C2paError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _cannot_sign(reason: str) -> BadInput:
    return BadInput(
        f"{CERT_VARIABLE} and {KEY_VARIABLE} cannot sign ({reason}); give a certificate under a CA, "
        "with an organisation in its subject, for digitalSignature and emailProtection, and its key"
    )


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInput(
            f"{name} names {path}, which cannot be read ({error.strerror}); check the path"
        ) from None


def _algorithm(key: bytes) -> str:
    """Returns the name of the signature algorithm that fits a private key in PEM."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInput(f"{KEY_VARIABLE} does not name a private key in PEM without a password") from None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        by_bits = {256: "es256", 384: "es384", 521: "es512"}
        if (bits := private.curve.key_size) in by_bits:
            return by_bits[bits]
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise BadInput(
        f"{KEY_VARIABLE} names a key that C2PA does not know; give a key of ECDSA P-256, RSA or Ed25519"
    )
