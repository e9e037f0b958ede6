"""An agent's key: Ed25519 signatures (RFC 8032), proofs of possession (RFC 9449) and assertions (RFC 7523).

The `cryptography` package signs if it is there. Otherwise the few lines below do: correct, and not constant in
time, which is no matter for a key that lives as long as one measurement.
"""
from __future__ import annotations

import base64
import hashlib
import json
import os
import time

# --- RFC 8032, section 5.1 ------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def _add(a, b):
    """Addition in extended coordinates (section 5.1.4)."""
    u = (a[1] - a[0]) * (b[1] - b[0]) % P
    v = (a[1] + a[0]) * (b[1] + b[0]) % P
    w, z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = v - u, z - w, z + w, v + u
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _base() -> tuple:
    y = 4 * pow(5, P - 2, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x & 1:
        x = P - x
    return (x, y, 1, x * y % P)


def _doublings() -> list:
    point, out = _base(), []
    for _ in range(256):
        out.append(point)
        point = _add(point, point)
    return out


_DOUBLED = _doublings()


def _times_base(n: int) -> bytes:
    sum_, place = (0, 1, 1, 0), 0
    while n:
        if n & 1:
            sum_ = _add(sum_, _DOUBLED[place])
        n, place = n >> 1, place + 1
    inverse = pow(sum_[2], P - 2, P)
    x, y = sum_[0] * inverse % P, sum_[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


class PlainEd25519:
    """A private key from 32 random bytes."""

    def __init__(self, seed: bytes):
        hashed = hashlib.sha512(seed).digest()
        scalar = int.from_bytes(hashed[:32], "little")
        self._scalar = scalar & ((1 << 254) - 8) | (1 << 254)
        self._prefix = hashed[32:]
        self.public = _times_base(self._scalar)

    def sign(self, message: bytes) -> bytes:
        r = int.from_bytes(hashlib.sha512(self._prefix + message).digest(), "little") % L
        point = _times_base(r)
        k = int.from_bytes(hashlib.sha512(point + self.public + message).digest(), "little") % L
        return point + ((r + k * self._scalar) % L).to_bytes(32, "little")


def ed25519(seed: bytes):
    """Something with `public` and `sign`."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    except ImportError:
        return PlainEd25519(seed)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    key_out = type("Ed25519", (), {})()
    key_out.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_out.sign = key.sign
    return key_out


# --- JOSE -----------------------------------------------------------------------------------


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


ahead_s = 0  # how far a server's test clock is ahead of this machine's


def now_s() -> int:
    return int(time.time()) + ahead_s


class AgentKey:
    """The key of one agent, and what it signs. Every statement serves once."""

    def __init__(self, seed: bytes | None = None):
        self._key = ed25519(seed or os.urandom(32))
        self.jwk = {"crv": "Ed25519", "kty": "OKP", "x": base64url(self._key.public)}
        self.thumbprint = base64url(hashlib.sha256(compact(self.jwk)).digest())  # RFC 7638

    def _signed(self, header: dict, claims: dict) -> str:
        head = base64url(compact({"alg": "EdDSA", **header})) + "." + base64url(compact(claims))
        return head + "." + base64url(self._key.sign(head.encode()))

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """A proof of possession for one request."""
        claims = {"jti": base64url(os.urandom(16)), "htm": method, "htu": url, "iat": now_s()}
        if token is not None:
            claims["ath"] = base64url(hashlib.sha256(token.encode()).digest())
        return self._signed({"typ": "dpop+jwt", "jwk": self.jwk}, claims)

    def assertion(self, spiffe: str, audience: str) -> str:
        """Who I am, for the token endpoint."""
        now = now_s()
        claims = {"iss": spiffe, "sub": spiffe, "aud": audience, "iat": now, "exp": now + 60, "jti": base64url(os.urandom(16))}
        return self._signed({"typ": "client-authentication+jwt", "kid": self.thumbprint}, claims)
