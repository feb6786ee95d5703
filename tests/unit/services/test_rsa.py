"""Signatures of service accounts: what others verify, and keys that are none."""

from __future__ import annotations

import base64
import json
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.services.lm.clouds.rsa import RsaKey
from tests.support.missing import missing


@cache
def pem(kind: str = "PKCS8", bits: int = 2048) -> str:
    try:
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError:
        missing("cryptography")
    form = PrivateFormat.PKCS8 if kind == "PKCS8" else PrivateFormat.TraditionalOpenSSL
    key = rsa.generate_private_key(65537, bits)
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


@pytest.mark.parametrize("kind", ["PKCS8", "PKCS1"])
def test_others_verify_what_we_sign(kind: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = pem(kind)
    theirs = load_pem_private_key(text.encode(), None)
    assert isinstance(theirs, rsa.RSAPrivateKey)
    ours = RsaKey(text)
    for message in (b"", b"a.b", bytes(range(256)) * 40):
        signature = ours.sign(message)
        assert signature == theirs.sign(message, padding.PKCS1v15(), SHA256())
        theirs.public_key().verify(signature, message, padding.PKCS1v15(), SHA256())


def test_the_example_of_the_standard() -> None:
    """RFC 7515, appendix A.2: an RS256 signature of a JWS, number for number."""
    decoded = [int.from_bytes(base64.urlsafe_b64decode(each + "=="), "big") for each in (N, "AQAB", D)]
    key = RsaKey(_pkcs1(*decoded))
    claims = b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    signed = b"eyJhbGciOiJSUzI1NiJ9." + claims

    assert base64.urlsafe_b64encode(key.sign(signed)).rstrip(b"=").decode() == SIGNATURE
    assert json.loads(base64.urlsafe_b64decode(signed.split(b".")[0])) == {"alg": "RS256"}
    assert repr(key) == "<RsaKey, 2048 bits>"


def test_a_short_key_is_not_taken() -> None:
    with pytest.raises(ValueError, match="an RSA key of 1024 bits is not taken"):
        RsaKey(_pkcs1((1 << 1023) + 1, 65537, 5))


def test_halves_that_do_not_match_sign_nothing() -> None:
    """A signature that is computed wrong would give the key away."""
    decoded = int.from_bytes(base64.urlsafe_b64decode(N + "=="), "big")
    with pytest.raises(ValueError, match="do not match"):
        RsaKey(_pkcs1(decoded, 65537, 65539)).sign(b"a")


@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda each: _armour(each)))
def test_any_text_is_a_key_or_told_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an RSA key|damaged|bits is not taken"):
        RsaKey(text)


def _armour(der: bytes, kind: str = "") -> str:
    body = base64.b64encode(der).decode() or "AA=="
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----\n"


def _pkcs1(modulus: int, public: int, private: int) -> str:
    def element(kind: int, content: bytes) -> bytes:
        size = len(content)
        length = bytes([size]) if size < 128 else bytes([130]) + size.to_bytes(2, "big")
        return bytes([kind]) + length + content

    numbers = [each.to_bytes(each.bit_length() // 8 + 1, "big") for each in (0, modulus, public, private)]
    return _armour(element(48, b"".join(element(2, each) for each in numbers)), "RSA ")


N = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs"
    "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV"
    "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
)
D = (
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0"
    "BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYT"
    "CBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"
)
SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZ"
    "cAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-e"
    "OkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
