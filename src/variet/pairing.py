"""Pure: how two machines that share nothing but a short code prove to each other that they know it.

Both machines use it. The code is stretched with scrypt (RFC 7914), the proofs are HMAC-SHA-256 over both nonces and the
fingerprint of the authority whose certificates Machine B will trust from then on. So a machine in between cannot pass a
proof on (its authority has another fingerprint), and to make one itself it would have to try 40 bits of code, a quarter
of a second each, in the minutes that a code lives.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import ssl

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing that is easily misread
_LENGTH = 8
_SCRYPT_COST = 2**16  # 64 MiB and about 0.2 s a try
_MISREAD = str.maketrans("OIL", "011")


def new_code() -> str:
    """40 random bits, written as two groups of four letters or digits."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return f"{text[:4]}-{text[4:]}"


def normalise(code: str) -> str:
    """A code as people type it, to the one way it is compared in. Raises ValueError for what cannot be one."""
    text = code.strip().upper().replace("-", "").replace(" ", "").translate(_MISREAD)
    if len(text) != _LENGTH or any(letter not in _ALPHABET for letter in text):
        raise ValueError("a pairing code has eight letters or digits, such as K7QD-M2XF")
    return text


def stretch(code: str, salt: bytes) -> bytes:
    """The secret that both sides derive from a code. Takes about 0.2 s on purpose."""
    text = normalise(code).encode()
    return hashlib.scrypt(text, salt=salt, n=_SCRYPT_COST, r=8, p=1, maxmem=2**27, dklen=32)


def prove(secret: bytes, side: str, *parts: bytes) -> str:
    """`side` (client or engine) keeps a proof from being sent back to whoever made it; hex."""
    mac = hmac.new(secret, side.encode(), hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(4, "big") + part)  # lengths, so that parts cannot be moved into each other
    return mac.hexdigest()


def proven(proof: str, secret: bytes, side: str, *parts: bytes) -> bool:
    return hmac.compare_digest(proof.encode(), prove(secret, side, *parts).encode())


def one_certificate(pem: str) -> str:
    """The same certificate, written the one way there is. Raises ValueError for anything but exactly one.

    TLS libraries trust every certificate in a text, Python's decoder reads only the first and forgives what follows its
    padding: whatever is trusted must be what was fingerprinted.
    """
    canonical = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pem))
    if "".join(canonical.split()) != "".join(pem.split()):
        raise ValueError("it is not one certificate and nothing else")
    return canonical


def fingerprint(authority_pem: str) -> bytes:
    """SHA-256 of a certificate's DER form; of nothing where there is none. Raises ValueError as `one_certificate`."""
    if not authority_pem:
        return hashlib.sha256(b"").digest()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(one_certificate(authority_pem))).digest()
