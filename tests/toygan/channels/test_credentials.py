"""Signatures on exports, with a certificate authority of the tests' own."""

from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from PIL import Image

from tests.toygan.channels.certificates import SHOP, put_credentials
from tests.toygan.channels.shop import Article, put_shop, toy
from toygan.channels.credentials import CERT_VARIABLE, KEY_VARIABLE, read_credentials, read_manifest
from toygan.channels.encoding import MIME_TYPES, encode_file
from toygan.channels.export import ExportRequest, export
from toygan.channels.inspection import inspect_file
from toygan.errors import BadInput
from toygan.storage.local import LocalStore
from toygan.xmp import xmp_packet

TITLE = "Secret Title"


def set_credentials(monkeypatch: pytest.MonkeyPatch, paths: tuple[Path, Path]) -> None:
    for name, path in zip((CERT_VARIABLE, KEY_VARIABLE), paths, strict=True):
        monkeypatch.setenv(name, str(path))


@pytest.fixture
def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch, put_credentials(tmp_path / "keys"))


@pytest.mark.parametrize("file_format", ["jpg", "png", "webp", "avif"])
def test_a_flipped_bit_breaks_the_signature(file_format: str, signing: None) -> None:
    credentials = read_credentials()
    assert credentials is not None
    mime = MIME_TYPES[file_format]  # type: ignore[index]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    plain = encode_file(image, file_format, 90, xmp_packet())  # type: ignore[arg-type]
    assert read_manifest(plain, mime) is None
    signed = credentials.sign(plain, mime, "toybricks", "0123")
    assert len(signed) < len(plain) + 5000  # no thumbnail
    content = read_manifest(signed, mime)
    assert content is not None
    assert content["validation_state"] == "Valid"
    # The pixels are the longest run of bytes that both files share.
    middle = plain[len(plain) // 2 : len(plain) // 2 + 32]
    at = signed.index(middle)
    content = read_manifest(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :], mime)
    assert content is not None
    assert content["validation_state"] == "Invalid"


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_other_keys_sign_as_well(
    key: ec.EllipticCurvePrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_credentials(monkeypatch, put_credentials(tmp_path, key))
    assert read_credentials() is not None


def test_exports_are_signed_and_name_the_model_only(tmp_path: Path, signing: None) -> None:
    store = LocalStore(tmp_path / "store")
    put_shop(store, [Article(sku="SECRET-1", title=TITLE, pixels=toy())])
    request = ExportRequest(channel="google", output=store.uri, to=str(tmp_path / "out"))
    assert (export(request).made, export(request).made) == (1, 0)
    (file,) = (tmp_path / "out" / "pictures").rglob("*.jpg")
    facts = "\n".join(inspect_file(file))
    assert f"C2PA: signed by {SHOP}, the signature holds; its CA is on no trust list here" in facts
    assert "c2pa.created by toybricks 0123456789ab, trainedAlgorithmicMedia" in facts
    data = file.read_bytes()
    assert TITLE.encode() not in data
    assert b"SECRET" not in data
    file.write_bytes(data[: len(data) - 99] + bytes([data[-99] ^ 1]) + data[len(data) - 98 :])
    assert "the signature does NOT hold: assertion.dataHash.mismatch" in "\n".join(inspect_file(file))


def test_another_certificate_signs_everything_again(
    tmp_path: Path, signing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "store")
    put_shop(store, [Article(sku="A", pixels=toy())])
    request = ExportRequest(channel="google", output=store.uri, to=str(tmp_path / "out"))
    export(request)
    set_credentials(monkeypatch, put_credentials(tmp_path / "new"))
    summary = export(request)
    assert (summary.made, summary.removed) == (1, 1)


def test_credentials_that_cannot_sign_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = put_credentials(tmp_path / "good")
    (tmp_path / "text.pem").write_text("no key")
    bad = {
        put_credentials(tmp_path / "aimless", has_purpose=False): "cannot sign",
        (certificate, put_credentials(tmp_path / "other")[1]): "cannot sign .*claimSignature.mismatch",
        (tmp_path / "none.pem", key): f"{CERT_VARIABLE} names .*none.pem, which cannot be read",
        (certificate, tmp_path / "text.pem"): "does not name a private key in PEM",
        (certificate, ""): f"need both .* set {KEY_VARIABLE}, too",
    }
    for paths, message in bad.items():
        set_credentials(monkeypatch, paths)  # type: ignore[arg-type]
        with pytest.raises(BadInput, match=message) as raised:
            read_credentials()
        assert "\n" not in str(raised.value)
