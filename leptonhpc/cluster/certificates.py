"""An authority for one run, and the certificates that it signs."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING

from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

LIFETIME = datetime.timedelta(days=400)
"""Longer than any walltime: UNLIMITED is a year to SLURM. With the run its keys are worthless."""
BACKDATED = datetime.timedelta(days=2)
"""Clocks of nodes differ, and some are in local time: before a run there are no keys of it."""
AUTHORITY = "ca"


def make_authority(folder: Path) -> None:
    """Make a key and a self-signed certificate: ``ca-key.pem`` and ``ca.pem``.

    Parameters
    ----------
    folder : path
        Where they are written, readable by their owner only.
    """
    from cryptography import x509

    key = _new_key()
    name = _named("leptonhpc run authority")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key.public_key(), LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _write_pair(folder, AUTHORITY, builder, key, key)


def make_certificate(
    folder: Path, role: str, *, name: str | None = None, into: Path | None = None,
    lifetime: datetime.timedelta = LIFETIME,
) -> None:  # fmt: skip
    """Make a key and a certificate that the run's authority signs.

    Parameters
    ----------
    folder : path
        Holds the authority.
    role : str
        "scheduler", "worker" or "client": the files are ``ROLE.pem`` and ``ROLE-key.pem``.
    name : str, optional
        What the audit log calls its holder; default: the role.
    into : path, optional
        Where the files are written; default: beside the authority.
    lifetime : timedelta
        From now; negative: expired already.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
    signer = serialization.load_pem_private_key(
        (folder / f"{AUTHORITY}-key.pem").read_bytes(), password=None
    )
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        message = f"{folder / AUTHORITY}-key.pem is not a key that leptonhpc made"
        raise OptionError(message)
    key = _new_key()
    # a worker listens and connects: one certificate is used for both
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role != "client":
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        _builder(_named(name or role), authority.subject, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(issuer, critical=False)
    )
    _write_pair(into or folder, role, builder, key, signer)


def write_private(path: Path, content: bytes | str) -> None:
    """Write a file that only its owner can read; it appears whole.

    Parameters
    ----------
    path : path
        The file; replaced if it is there.
    content : bytes or str
        What it holds.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _named(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:  # fmt: skip
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lifetime) - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _write_pair(
    folder: Path, role: str, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
) -> None:  # fmt: skip
    from cryptography.hazmat.primitives import hashes, serialization

    certificate = builder.sign(signer, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(folder / f"{role}-key.pem", private)
    write_private(folder / f"{role}.pem", certificate.public_bytes(serialization.Encoding.PEM))
