"""Bedrock and Vertex over sockets: signed requests, tokens that are renewed, credentials of files and machines."""

from __future__ import annotations

import asyncio
import base64
import calendar
import datetime as dt
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

import dspex
from dspex._clock import wall_time
from dspex.protocols.secret import Secret
from dspex.services.lm.clouds.sigv4 import AwsKeys, signed_headers
from tests.support import bedrock_answers
from tests.support.programs import Ask, Question
from tests.support.provider_answers import claude, gemini, reply
from tests.support.transports import Answer, Peer, Server, serving
from tests.unit.services.test_rsa import pem

SAID = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
SONNET = "anthropic.claude-sonnet-4-20250514-v1:0"
WHOLE = reply(bedrock_answers.whole({"text": SAID}))
STREAM = reply(bedrock_answers.stream(SAID), kind="application/vnd.amazon.eventstream")
QUICK = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=2, base=0.0, cap=0.0))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An account of nobody: no file of whoever runs this is read."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "CLOUDSDK_AUTH_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")


def root(server: Server) -> str:
    return server.url.removesuffix("/v1/chat/completions")


def app_at(server: Server, model: str, provider: Any = None, **lm: Any) -> dspex.App:
    own = {model.partition("/")[0]: provider} if provider is not None else {}
    record = dspex.LM(model, api_base=root(server), **lm)
    return dspex.App(record, cache=None, adapter="chat", providers=own, limits=QUICK)


def by_path(**answers: Answer) -> Answer:
    """Answer each request by a word in its first line."""

    def choose(peer: Peer) -> None:
        line = peer.server.requests[-1][0].splitlines()[0].decode()
        next(answer for word, answer in answers.items() if word in line)(peer)

    return choose


def fields(head: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])


def check_signature(server: Server, number: int, keys: AwsKeys) -> None:
    """Sign what has arrived once more: the same bytes, host and path."""
    head, body = server.requests[number]
    sent, path = fields(head), head.split()[1].decode()
    asked = {name: value for name, value in sent.items() if name == "content-type"}
    moment = sent["x-amz-date"]
    now = float(calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ")))
    made = signed_headers(
        "POST", f"http://{sent['host']}{path}", asked, body, keys, region="eu-west-1", service="bedrock", now=now
    )
    assert made["authorization"] == sent["authorization"]
    assert abs(now - wall_time()) < 300


async def test_bedrock_answers_and_streams_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the environment's key, and its session."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-session")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-a-session")
    answers = by_path(**{"converse-stream": STREAM, "converse": WHOLE})
    async with serving(answers) as server, app_at(server, f"bedrock/{SONNET}") as app:
        prediction = await app.run(Ask(), question="Who?")
        async with app.stream(dspex.Predict(Question), question="Who?") as stream:
            text = "".join([each.text async for each in stream if isinstance(each, dspex.Delta)])
            streamed = await stream.result()

    assert prediction.answer == streamed.answer == text == "Paris"
    assert dspex.details(prediction).usage.input_tokens == 130
    keys = AwsKeys("AKID", Secret("secret-of-a-session"), Secret("token-of-a-session"))
    for number in range(2):
        check_signature(server, number, keys)
    assert b"/model/anthropic.claude-sonnet-4-20250514-v1%3A0/converse " in server.requests[0][0]


async def test_the_shared_files_are_read(tmp_path: Path) -> None:
    """A profile by its name: the key in one file, other settings in another."""
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = OTHER\naws_secret_access_key = other\n\n"
        "[work] # mine\naws_access_key_id=AKID ; old\naws_secret_access_key=a/b+c=\n"
    )
    (folder / "config").write_text("[profile work]\nregion = eu-west-1\ns3 =\n  max_concurrent_requests = 20\n")
    async with serving(WHOLE) as server, app_at(server, "bedrock/m", dspex.lm.bedrock(profile="work")) as app:
        assert (await app.run(Ask(), question="Who?")).answer == "Paris"

    check_signature(server, 0, AwsKeys("AKID", Secret("a/b+c=")))


async def test_a_key_of_bedrock_s_own_is_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "ABSK-of-mine")
    async with serving(WHOLE) as server, app_at(server, "bedrock/m") as app:
        await app.run(Ask(), question="Who?")

    assert fields(server.requests[0][0])["authorization"] == "Bearer ABSK-of-mine"


async def test_a_throttled_request_is_tried_again_and_signed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-mine")
    throttled = reply({"message": "Slow down"}, 429, headers="x-amzn-ErrorType: ThrottlingException\r\n")
    async with serving(throttled, WHOLE) as server, app_at(server, "bedrock/m") as app:
        request = app.start(Ask(), question="Who?")
        await request

    assert [each.outcome for each in request.details.attempts] == ["RateLimited", "ok"]
    check_signature(server, 1, AwsKeys("AKID", Secret("secret-of-mine")))


async def test_without_credentials_nothing_is_sent() -> None:
    async with serving(WHOLE) as server, app_at(server, "bedrock/m") as app:
        with pytest.raises(dspex.AuthFailed, match=r"no credentials for AWS: set AWS_ACCESS_KEY_ID") as caught:
            await app.run(Ask(), question="Who?")

    assert not caught.value.may_be_charged
    assert not server.requests


async def test_a_profile_with_a_login_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nsso_session = mine\nregion = eu-west-1\n")
    async with serving(WHOLE) as server, app_at(server, "bedrock/m") as app:
        with pytest.raises(dspex.AuthFailed, match="aws configure export-credentials --profile default"):
            await app.run(Ask(), question="Who?")


def test_a_missing_region_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(dspex.ConfigError, match="Bedrock needs a region: set AWS_REGION"):
        dspex.App("bedrock/m")
    dspex.App("bedrock/m", providers={"bedrock": dspex.lm.bedrock(region="us-east-1")})
    dspex.App(dspex.LM("bedrock/m", api_base="https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com"))
    with pytest.raises(dspex.ConfigError, match="did you mean 'bedrock/m'"):
        dspex.App("aws-bedrock/m")


def later(seconds: float) -> str:
    return (dt.datetime.fromtimestamp(wall_time(), dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


async def test_an_instance_s_keys_are_asked_for_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By version 2 of its protocol: a ticket, the role, its keys; once, since they hold for a while."""
    keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "secret-of-a-role", "Token": "token-of-a-role"}
    machine = by_path(
        **{
            "PUT /latest/api/token": reply(b"ticket", kind="text/plain"),
            "security-credentials/ ": reply(b"my-role", kind="text/plain"),
            "security-credentials/my-role": reply({**keys, "Expiration": later(3600)}),
        }
    )
    async with serving(machine) as metadata, serving(WHOLE) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", root(metadata))
        async with app_at(server, "bedrock/m", dspex.lm.bedrock(metadata=True)) as app:
            await asyncio.gather(*(app.run(Ask(), question=f"Who {number}?") for number in range(5)))

    signed = AwsKeys("ASIA", Secret("secret-of-a-role"), Secret("token-of-a-role"))
    for number in range(5):
        check_signature(server, number, signed)
    assert len(metadata.requests) == 3
    assert fields(metadata.requests[2][0].lower())["x-aws-ec2-metadata-token"] == "ticket"


async def test_a_container_s_keys_are_renewed_before_their_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that have a few seconds left are used no more."""

    def keys(name: str, seconds: float) -> Answer:
        shown = {"AccessKeyId": name, "SecretAccessKey": "s" * 20, "Token": f"{name}-token"}
        return reply({**shown, "Expiration": later(seconds)})

    (tmp_path / "token").write_text("Bearer pod\n")
    async with serving(keys("FIRST", 0.001), keys("SECOND", 3600)) as metadata, serving(WHOLE) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{root(metadata)}/v1/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        async with app_at(server, "bedrock/m", dspex.lm.bedrock(metadata=True)) as app:
            for number in range(3):
                await app.run(Ask(), question=f"Who {number}?")

    shown = [fields(head)["x-amz-security-token"] for head, _ in server.requests]
    assert shown == ["FIRST-token", "SECOND-token", "SECOND-token"]
    assert fields(metadata.requests[0][0])["authorization"] == "Bearer pod"


async def test_a_machine_elsewhere_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would be somebody else's keys."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.test/keys")
    async with serving(WHOLE) as server, app_at(server, "bedrock/m", dspex.lm.bedrock(metadata=True)) as app:
        with pytest.raises(dspex.AuthFailed, match="not an address of this machine's network"):
            await app.run(Ask(), question="Who?")


# --- Vertex ---------------------------------------------------------------------------------------------------


def service_account(folder: Path, server: Server, **more: Any) -> Path:
    found = {
        "type": "service_account",
        "project_id": "other-project",
        "private_key_id": "k1",
        "private_key": pem(),
        "client_email": "me@my-project.iam.gserviceaccount.com",
        "token_uri": f"{root(server)}/token",
        **more,
    }
    path = folder / "account.json"
    path.write_text(json.dumps(found))
    return path


def token(name: str, seconds: float = 3600) -> Answer:
    return reply({"access_token": name, "expires_in": seconds, "token_type": "Bearer"})


def in_turn(*answers: Answer) -> Answer:
    left = list(answers)
    return lambda peer: (left.pop(0) if len(left) > 1 else left[0])(peer)


def asked_models(server: Server) -> list[tuple[str, str]]:
    lines = [(head.split()[1].decode(), fields(head).get("authorization", "")) for head, _ in server.requests]
    return [each for each in lines if each[0] != "/token"]


async def test_a_service_account_proves_itself_once(tmp_path: Path) -> None:
    """For both makers' models: the account's signature is given away for a token, which is shown."""
    answers = by_path(
        **{
            "/token": token("ya29.mine"),
            "rawPredict": claude(stop="end_turn", text=SAID),
            "gen": gemini({"text": SAID}),
        }
    )
    async with serving(answers) as server:
        own = dspex.lm.vertex(credentials=service_account(tmp_path, server), location="europe-west4")
        async with app_at(server, "vertex/gemini-2.5-flash", own) as app:
            assert (await app.run(Ask(), question="Who?")).answer == "Paris"
            assert (await app.run(Ask(), question="Whose?")).answer == "Paris"
        async with app_at(server, "vertex/claude-sonnet-4@20250514", own) as app:
            assert (await app.run(Ask(), question="Who?")).answer == "Paris"

    place = "/projects/my-project/locations/europe-west4/publishers"
    assert asked_models(server) == [
        (f"{place}/google/models/gemini-2.5-flash:generateContent", "Bearer ya29.mine"),
        (f"{place}/google/models/gemini-2.5-flash:generateContent", "Bearer ya29.mine"),
        (f"{place}/anthropic/models/claude-sonnet-4@20250514:rawPredict", "Bearer ya29.mine"),
    ]
    sent = json.loads(server.requests[-1][1])
    assert sent["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in sent
    (form, _) = [parse_qs(body.decode()) for head, body in server.requests if b" /token " in head]
    head, claims, _ = form["assertion"][0].split(".")
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    told = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert (told["iss"], told["aud"]) == ("me@my-project.iam.gserviceaccount.com", f"{root(server)}/token")
    assert told["exp"] - told["iat"] == 3600


async def test_a_token_is_renewed_before_its_end_and_after_a_refusal(tmp_path: Path) -> None:
    refused = reply({"error": {"code": 401, "message": "old", "status": "UNAUTHENTICATED"}}, 401)
    tokens = in_turn(token("short-lived-token", 0.001), token("second-token"))
    async with serving(by_path(**{"/token": tokens, "gen": in_turn(gemini({"text": SAID}), refused)})) as server:
        own = dspex.lm.vertex(credentials=service_account(tmp_path, server))
        async with app_at(server, "vertex/gemini-2.5-flash", own) as app:
            await app.run(Ask(), question="Who?")
            with pytest.raises(dspex.AuthFailed, match="GOOGLE_APPLICATION_CREDENTIALS"):
                await app.run(Ask(), question="Whose?")

    assert [proof for _, proof in asked_models(server)] == ["Bearer short-lived-token", "Bearer second-token"]


async def test_a_login_of_gcloud_is_used(tmp_path: Path) -> None:
    """The file that gcloud writes, where it writes it."""
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    async with serving(by_path(**{"/token": token("ya29.user"), "gen": gemini({"text": SAID})})) as server:
        found = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "1//r"}
        where = {"token_uri": f"{root(server)}/token"}
        (folder / "application_default_credentials.json").write_text(json.dumps({**found, **where}))
        async with app_at(server, "vertex/gemini-2.5-flash") as app:
            await app.run(Ask(), question="Who?")

    form = parse_qs(server.requests[0][1].decode())
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["1//r"])
    assert asked_models(server)[0][1] == "Bearer ya29.user"


async def test_a_machine_of_google_is_asked_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(token("ya29.machine")) as metadata, serving(gemini({"text": SAID})) as server:
        monkeypatch.setenv("GCE_METADATA_HOST", root(metadata).removeprefix("http://"))
        async with app_at(server, "vertex/gemini-2.5-flash", dspex.lm.vertex(metadata=True)) as app:
            await app.run(Ask(), question="Who?")

    assert asked_models(server)[0][1] == "Bearer ya29.machine"
    assert fields(metadata.requests[0][0].lower())["metadata-flavor"] == "google"


@pytest.mark.parametrize(("key", "name"), [("AIza-of-mine", "x-goog-api-key"), ("ya29.of-mine", "authorization")])
async def test_a_key_or_a_token_of_one_s_own(key: str, name: str) -> None:
    async with serving(gemini({"text": SAID})) as server, app_at(server, "vertex/gemini-2.5-pro", api_key=key) as app:
        await app.run(Ask(), question="Who?")

    assert fields(server.requests[0][0])[name].removeprefix("Bearer ") == key


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda path: path.unlink(), "is not there"),
        (lambda path: path.write_text("{"), "not a JSON object"),
        (lambda path: path.write_bytes(b"\xff"), "cannot be read"),
        (lambda path: path.write_text('{"type": "service_account"}'), "lacks client_email or private_key"),
        (
            lambda path: path.write_text('{"type":"service_account","client_email":"a","private_key":"canary"}'),
            "not an RSA key in PEM",
        ),
        (lambda path: path.write_text('{"type": "external_account"}'), "gcloud auth print-access-token"),
    ],
)
async def test_a_file_that_is_none_is_told(tmp_path: Path, change: Callable[[Path], object], problem: str) -> None:
    async with serving(token("t")) as server:
        path = service_account(tmp_path, server)
        change(path)
        with pytest.raises((dspex.AuthFailed, dspex.ConfigError), match=problem):
            async with app_at(server, "vertex/gemini-2.5-pro", dspex.lm.vertex(credentials=path)) as app:
                await app.run(Ask(), question="Who?")
        assert not asked_models(server)


async def test_an_account_that_google_does_not_know(tmp_path: Path) -> None:
    refused = reply({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, 400)
    async with serving(refused) as server:
        own = dspex.lm.vertex(credentials=service_account(tmp_path, server))
        async with app_at(server, "vertex/gemini-2.5-pro", own) as app:
            with pytest.raises(dspex.AuthFailed, match=r"refused the credentials \(invalid_grant\)"):
                await app.run(Ask(), question="Who?")


async def test_a_server_that_repeats_credentials_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that were fetched after the connection was made."""
    canary = "canary-token-of-a-role-4711"
    keys = {"AccessKeyId": "A", "SecretAccessKey": "s" * 20, "Token": canary, "Expiration": later(3600)}
    echo = reply(bedrock_answers.whole({"text": SAID.replace("Paris", f"Paris {canary}")}))
    refusal = reply({"message": f"no {canary}"}, 400, headers="x-amzn-ErrorType: ValidationException\r\n")
    async with serving(reply(keys)) as metadata, serving(echo, refusal) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{root(metadata)}/keys")
        async with app_at(server, "bedrock/m", dspex.lm.bedrock(metadata=True)) as app:
            prediction = await app.run(Ask(), question="Who?")
            with pytest.raises(dspex.RequestRejected) as caught:
                await app.run(Ask(), question="Whose?")
            tree = str(app.tree())

    assert prediction.answer == "Paris [key]"
    assert canary not in "".join(traceback.format_exception(caught.value))
    assert canary not in tree
