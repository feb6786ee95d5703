"""Signatures of AWS, against the vectors that it publishes."""

from __future__ import annotations

import calendar

import pytest

from dspex.protocols.secret import Secret
from dspex.services.lm.clouds.sigv4 import AwsKeys, canonical_request, signed_headers

NOW = float(calendar.timegm((2015, 8, 30, 12, 36, 0)))
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = AwsKeys("AKIDEXAMPLE", Secret(SECRET))
HOST = "https://example.amazonaws.com"
FORM = {"content-type": "application/x-www-form-urlencoded"}
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwth"
    "Ax7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAk"
    "iY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "names", "signature"),
    [
        ("GET", "/", {}, b"", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", {}, b"", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            *("GET", "/?Param2=value2&Param1=value1", {}, b"", "host;x-amz-date"),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            *("POST", "/", FORM, b"Param1=value1", "content-type;host;x-amz-date"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
    ids=["get-vanilla", "post-vanilla", "get-vanilla-query-order-key-case", "post-x-www-form-urlencoded"],
)
def test_the_suite_of_aws(
    method: str, url: str, headers: dict[str, str], body: bytes, names: str, signature: str
) -> None:
    made = signed_headers(method, HOST + url, headers, body, KEYS, region="us-east-1", service="service", now=NOW)

    scope = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    assert made["authorization"] == f"AWS4-HMAC-SHA256 {scope}, SignedHeaders={names}, Signature={signature}"
    assert made["x-amz-date"] == "20150830T123600Z"


def test_a_session_s_token_is_signed() -> None:
    """The suite's post-sts-header-before."""
    keys = AwsKeys("AKIDEXAMPLE", Secret(SECRET), Secret(TOKEN))
    made = signed_headers("POST", f"{HOST}/", {}, b"", keys, region="us-east-1", service="service", now=NOW)

    assert made["authorization"].endswith(
        "SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
    )
    assert made["x-amz-security-token"] == TOKEN


def test_the_example_of_the_manual() -> None:
    """ListUsers, in the guide to the signing process."""
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "accept": "*/*"}
    url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"
    made = signed_headers("GET", url, headers, b"", KEYS, region="us-east-1", service="iam", now=NOW)

    assert made["authorization"].endswith("=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")


def test_the_path_is_encoded_once_more() -> None:
    """As the services have it: a model's name holds a colon, an ARN slashes too."""
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-v1%3A0/converse"
    text, names = canonical_request("POST", url, {"x-amzn-trace": "1", "accept": "a", "x-amz-meta": " a  b "}, b"{}")

    assert text.splitlines()[1] == "/model/anthropic.claude-v1%253A0/converse"
    assert "x-amz-meta:a b" in text.splitlines()
    assert names == "host;x-amz-meta"


def test_nothing_shows_the_secret() -> None:
    made = signed_headers(
        "GET", HOST, {}, b"", AwsKeys("A", Secret(SECRET), Secret(TOKEN)), region="r", service="s", now=0
    )

    assert SECRET not in repr(AwsKeys("A", Secret(SECRET)))
    assert TOKEN not in repr(made)
