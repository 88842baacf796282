"""The engine's own certificate: a small authority of this machine alone, and a server certificate signed by it.

Clients trust the authority once, at pairing; the server certificate follows addresses and years without them noticing.
The authority may sign for private addresses and local names only (RFC 5280, name constraints): whoever stole its key
could still not pretend to be any other site to a client that trusts it.
"""

from __future__ import annotations

import datetime
import ipaddress
import logging
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from variet import paths
from variet.engine.addresses import PRIVATE_NETWORKS, Names
from variet.errors import TrustError

log = logging.getLogger("variet.engine.certificate")
_AUTHORITY_YEARS = 20
_LEAF_DAYS = 397  # the longest that every TLS library accepts
_RENEW_BEFORE_DAYS = 60
_LOCAL_SUFFIXES = ("localhost", "local", "lan", "home.arpa", "internal")


class Certificates:
    """The authority and the server certificate in one private folder; made when first asked for."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or paths.config_dir() / "tls"
        self.authority_path = self.folder / "authority.pem"
        self._authority_key_path = self.folder / "authority.key"
        self._leaf_path = self.folder / "server.pem"
        self._leaf_key_path = self.folder / "server.key"

    def authority_pem(self) -> str:
        """The certificate that clients trust. Raises TrustError where it cannot be read."""
        return self.authority_path.read_text(encoding="ascii")

    def context(self, names: Names) -> ssl.SSLContext:
        """A server's TLS context with a certificate for these names. Raises TrustError."""
        self.refresh(names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Use the certificate on disk from the next connection on."""
        context.load_cert_chain(self._leaf_path, self._leaf_key_path)

    def refresh(self, names: Names) -> bool:
        """Make what is missing, and a new server certificate where names changed or the end is near; whether it did.

        Raises TrustError where the folder or the authority cannot be used.
        """
        try:
            paths.private_dir(self.folder)
            if not (self.authority_path.is_file() and self._authority_key_path.is_file()):
                self._make_authority(names)
            authority = x509.load_pem_x509_certificate(self.authority_path.read_bytes())
            names = _permitted(authority, names)
            if self._leaf_serves(authority, names):
                return False
            self._make_leaf(authority, names)
        except (OSError, ValueError) as error:
            raise TrustError(
                f"the engine's certificate cannot be made or read: {error}",
                where=str(self.folder),
                next_step="Mend or remove that folder; without it, clients pair again",
            ) from None
        return True

    def _leaf_serves(self, authority: x509.Certificate, names: Names) -> bool:
        if not (self._leaf_path.is_file() and self._leaf_key_path.is_file()):
            return False
        leaf = x509.load_pem_x509_certificate(self._leaf_path.read_bytes())
        remaining = leaf.not_valid_after_utc - _now()
        held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        has = Names(
            frozenset(held.get_values_for_type(x509.DNSName)),
            frozenset(str(one) for one in held.get_values_for_type(x509.IPAddress)),
        )
        key = serialization.load_pem_private_key(self._leaf_key_path.read_bytes(), None)
        if key.public_key() != leaf.public_key():
            return False  # a renewal was interrupted between the two files
        fresh = remaining > datetime.timedelta(days=_RENEW_BEFORE_DAYS)
        return fresh and has == names and leaf.issuer == authority.subject

    def _make_authority(self, names: Names) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        # A number in the name keeps two authorities of one machine apart in a client's store.
        subject = _subject(f"Variet Engine authority {socket.gethostname()[:24]} {x509.random_serial_number() % 10**8}")
        hosts = sorted({*_LOCAL_SUFFIXES, *names.dns})
        permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in hosts]
        permitted += [x509.IPAddress(network) for network in PRIVATE_NETWORKS]
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            _builder(subject, subject, key.public_key(), datetime.timedelta(days=365 * _AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.NameConstraints(permitted, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        paths.write_whole(self._authority_key_path, _key_bytes(key), 0o600)
        paths.write_whole(self.authority_path, certificate.public_bytes(serialization.Encoding.PEM))

    def _make_leaf(self, authority: x509.Certificate, names: Names) -> None:
        signer = serialization.load_pem_private_key(self._authority_key_path.read_bytes(), None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{self._authority_key_path} holds no EC key")
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(names.dns)]
        alternatives += [x509.IPAddress(ipaddress.ip_address(one)) for one in sorted(names.addresses)]
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        certificate = (
            _builder(_subject("Variet Engine"), authority.subject, key.public_key(), datetime.timedelta(_LEAF_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        paths.write_whole(self._leaf_key_path, _key_bytes(key), 0o600)
        paths.write_whole(self._leaf_path, certificate.public_bytes(serialization.Encoding.PEM))


def _permitted(authority: x509.Certificate, names: Names) -> Names:
    """Without the names that this authority may not sign for: one of them would spoil the certificate for all."""
    allowed = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    suffixes = [one.value for one in allowed if isinstance(one, x509.DNSName)]
    known = {name for name in names.dns if any(name == one or name.endswith(f".{one}") for one in suffixes)}
    for name in sorted(names.dns - known):
        log.warning("%s is newer than the engine's authority: remove the tls folder and pair again to use it", name)
    return Names(frozenset(known), names.addresses)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lives: datetime.timedelta
) -> x509.CertificateBuilder:
    begins = _now() - datetime.timedelta(days=1)  # clocks of two machines differ
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + lives)
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
