"""A certificate authority of the tests' own, and a leaf certificate that may sign Content Credentials."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SHOP = "Toy Shop Ltd"
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def put_credentials(folder: Path, key: _Key | None = None, *, has_purpose: bool = True) -> tuple[Path, Path]:
    """Writes a chain and a key as PEM; returns both paths."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    ca_key, ca_name = ec.generate_private_key(ec.SECP256R1()), _name("Test CA")
    chain = [
        _certificate(_name(SHOP), ca_name, key, ca_key, is_ca=False, has_purpose=has_purpose),
        _certificate(ca_name, ca_name, ca_key, ca_key, is_ca=True, has_purpose=False),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    certificates, private = folder / "cert.pem", folder / "key.pem"
    certificates.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificates, private


def _name(organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, organisation),
        ]
    )


def _certificate(
    name: x509.Name, issuer: x509.Name, key: _Key, ca_key: _Key, *, is_ca: bool, has_purpose: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_ca, key_cert_sign=is_ca, crl_sign=is_ca, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if has_purpose:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(ca_key, hashes.SHA256())
