"""Google Cloud: the project and location, and access tokens of service accounts, of users and of machines."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from dspex._clock import wall_time
from dspex.errors import AuthFailed, ConfigError, ServerFailed
from dspex.protocols.headers import HiddenHeaders
from dspex.protocols.model import LM, Secret
from dspex.protocols.wire import OffLoopRun, Post, ReadVariable, Wire
from dspex.services.lm.clouds import metadata
from dspex.services.lm.clouds.files import Hidden, home_of, read_small
from dspex.services.lm.clouds.renewal import Renewal
from dspex.services.lm.clouds.rsa import RsaKey
from dspex.services.lm.wires._json import parse, string
from dspex.services.lm.wires.vertex.wire import VertexClaude, VertexGemini, is_api_key

__all__ = ["GoogleCloud", "GoogleSigner"]

_GEMINI: Final = VertexGemini()
_CLAUDE: Final = VertexClaude()
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_TOKENS: Final = "https://oauth2.googleapis.com/token"
_METADATA: Final = "metadata.google.internal"
_SERVICE: Final = "/computeMetadata/v1/instance/service-accounts/default/token"
_DEFAULT_FILE: Final = (".config", "gcloud", "application_default_credentials.json")
_HOUR: Final = 3600
_LONGEST: Final = 86_400.0
_PLACE: Final = re.compile(r"[a-z][a-z0-9-]{0,40}")
_PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9:.-]{0,80}")
_WHAT: Final = "Google's token server"


@dataclass(frozen=True, slots=True)
class GoogleCloud:
    """
    A project at Google Cloud.

    Attributes:
        project: None: ``GOOGLE_CLOUD_PROJECT``, or the one in the file of credentials.
        location: None: ``GOOGLE_CLOUD_LOCATION``, or ``global``.
        credentials: The file of a service account, or of ``gcloud auth application-default login``; None:
            ``GOOGLE_APPLICATION_CREDENTIALS``, or the place where gcloud writes.
        metadata: Asks the machine's own server for tokens where there is no file.
    """

    project: str | None = None
    location: str | None = None
    credentials: str | Path | None = None
    metadata: bool = False

    hint = (
        "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, run `gcloud auth application-default "
        "login`, or give LM(..., api_key=...); on a machine of Google Cloud give "
        "App(providers={'vertex': dspex.lm.vertex(metadata=True)})"
    )

    def place(self, lm: LM, read: ReadVariable) -> tuple[str, Wire]:
        """
        Return the address for a model, and its wire: Claude's for names that begin so, else Gemini's.

        Raises:
            ConfigError: Nothing says which project.
        """
        is_claude = lm.model_name.startswith("claude")
        wire: Wire = _CLAUDE if is_claude else _GEMINI
        given = lm.api_base.rstrip("/") if lm.api_base is not None else ""
        if "/publishers/" in given:
            return given, wire
        project = self.project or _variable(read, "GOOGLE_CLOUD_PROJECT") or self._project_of_file(read)
        location = self.location or _variable(read, "GOOGLE_CLOUD_LOCATION") or "global"
        publisher = f"publishers/{'anthropic' if is_claude else 'google'}"
        if not project and not is_claude and lm.api_key is not None and is_api_key(lm.api_key):
            return f"{given or 'https://aiplatform.googleapis.com/v1'}/{publisher}", wire  # the key names its project
        if not project:
            raise ConfigError(
                f"{lm.model!r} needs a project: set GOOGLE_CLOUD_PROJECT, or give it as "
                "App(providers={'vertex': dspex.lm.vertex(project='my-project')})"
            )
        if not _PROJECT.fullmatch(project) or not _PLACE.fullmatch(location):
            raise ConfigError(f"{project!r:.60} in {location!r:.60} is not a project in a location of Google Cloud")
        host = "aiplatform.googleapis.com" if location == "global" else f"{location}-aiplatform.googleapis.com"
        return f"{given or f'https://{host}/v1'}/projects/{project}/locations/{location}/{publisher}", wire

    def signer(self, base_url: str, read: ReadVariable, post: Post, off_loop: OffLoopRun) -> GoogleSigner:
        """Return what shows tokens at an address; nothing is read or sent yet."""
        return GoogleSigner(self, read, post, off_loop)

    def file(self, read: ReadVariable) -> tuple[Path | None, bool]:
        """Return the file of credentials, and if the user named it: one that nobody named may be missing."""
        given = self.credentials or _variable(read, "GOOGLE_APPLICATION_CREDENTIALS")
        if given:
            return Path(given), True
        home = home_of(read)
        return (home.joinpath(*_DEFAULT_FILE) if home is not None else None), False

    def _project_of_file(self, read: ReadVariable) -> str:
        path, named = self.file(read)
        if path is None:
            return ""
        fields = _account(path, not named)
        return string(fields, "project_id") or string(fields, "quota_project_id")


class GoogleSigner:
    """Shows an access token that is renewed before it runs out; its repr shows none."""

    __slots__ = ("_cloud", "_off_loop", "_post", "_read", "_token", "secrets")

    def __init__(self, cloud: GoogleCloud, read: ReadVariable, post: Post, off_loop: OffLoopRun) -> None:
        self._cloud = cloud
        self._read = read
        self._post = post
        self._off_loop = off_loop
        self._token: Renewal[Secret] = Renewal(self._fetch)
        self.secrets: tuple[str, ...] = ()

    async def headers(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the header with the token; raises ``AuthFailed`` without credentials."""
        token = await self._token.get()
        made = HiddenHeaders()
        made["authorization"] = f"Bearer {token.reveal()}"
        return made

    def refused(self) -> None:
        """Note that the token was refused: another one is fetched for the next request."""
        self._token.drop()

    async def _fetch(self) -> tuple[Secret, float]:
        token, seconds = await self._found()
        self.secrets = (token.reveal(), *self.secrets[:1])  # requests under way show the token before
        return token, seconds

    async def _found(self) -> tuple[Secret, float]:
        cloud, read = self._cloud, self._read
        path, named = cloud.file(read)
        try:
            fields = await self._off_loop(_account, path, not named) if path is not None else Hidden()
        except ConfigError as error:
            raise _unsent(AuthFailed(str(error))) from error
        kind = string(fields, "type")
        if kind == "service_account":
            return await self._exchanged(fields, await self._off_loop(_assertion, fields, wall_time()))
        if kind == "authorized_user":
            given = Hidden({name: string(fields, name) for name in ("client_id", "client_secret", "refresh_token")})
            return await self._exchanged(fields, Hidden(given, grant_type="refresh_token"))
        if kind:
            raise _unsent(
                AuthFailed(
                    f"{path} is of the type {kind!r:.40}, which dspex does not follow: give the token of "
                    "`gcloud auth print-access-token` as LM(..., api_key=...)"
                )
            )
        if not cloud.metadata:
            raise _unsent(AuthFailed(f"no credentials for Google Cloud: {cloud.hint}"))
        host = _variable(read, "GCE_METADATA_HOST") or _METADATA
        what = "machine's metadata server"
        found = await metadata.ask_fields(f"http://{host}{_SERVICE}", {"metadata-flavor": "Google"}, what=what)
        return _token_in(found, what)

    async def _exchanged(self, fields: Mapping[str, object], form: Mapping[str, str]) -> tuple[Secret, float]:
        """Give the proof of an account away for a token."""
        url = string(fields, "token_uri") or _TOKENS
        if not metadata.is_own_network(url):
            raise _unsent(AuthFailed("the token_uri of the credentials must begin with https://"))
        headers = HiddenHeaders()
        headers["content-type"] = "application/x-www-form-urlencoded"
        headers["accept"] = "application/json"
        status, _, body = await self._post(url, headers, urlencode(form).encode())
        if status == 429 or status >= 500:
            raise _unsent(ServerFailed(f"{_WHAT} answered {status}", status=status))
        if status == 200:
            return _token_in(metadata.fields_of(body, _WHAT), _WHAT)
        word = re.sub(r"[^a-z_]", "", string(_object(body), "error"))[:40] or f"status {status}"
        del body  # may repeat the proof
        raise _unsent(AuthFailed(f"{_WHAT} refused the credentials ({word}): {self._cloud.hint}", status=status))

    def __repr__(self) -> str:
        return "<GoogleSigner>"


def _account(path: Path, missing: bool) -> Hidden:
    """Return the fields of a file of credentials; none for one that may be missing."""
    found = _object(read_small(path, missing="{}" if missing else None))
    if found is None:
        raise ConfigError(f"{path} is not a file of credentials of Google Cloud: it is not a JSON object")
    return found


def _object(text: str | bytes) -> Hidden | None:
    try:
        found = parse(text)
    except ValueError:
        return None
    return Hidden(found) if isinstance(found, dict) else None


def _assertion(fields: Mapping[str, object], now: float) -> Hidden:
    """
    Return the form by which a service account proves itself (RFC 7523, section 2.1).

    Raises:
        AuthFailed: The file lacks something, or its key is damaged.
    """
    address = string(fields, "client_email")
    if not address or not string(fields, "private_key"):
        raise _unsent(AuthFailed("the service account's file lacks client_email or private_key"))
    audience = string(fields, "token_uri") or _TOKENS
    head = {"alg": "RS256", "typ": "JWT", "kid": string(fields, "private_key_id")}
    claims = {"iss": address, "scope": _SCOPE, "aud": audience, "iat": int(now), "exp": int(now) + _HOUR}
    text = b".".join(_base64url(json.dumps(each, separators=(",", ":")).encode()) for each in (head, claims))
    try:
        signature = RsaKey(string(fields, "private_key")).sign(text)
    except ValueError as error:
        problem = str(error)
    else:
        token = (text + b"." + _base64url(signature)).decode("ascii")
        return Hidden(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=token)
    # Raised here, so that the other error, whose frames hold the key, is not its context.
    raise _unsent(AuthFailed(f"the private_key of the service account cannot be used: {problem}"))


def _token_in(fields: Mapping[str, object], what: str) -> tuple[Secret, float]:
    token = Secret(metadata.text_under(fields, "access_token", what))
    if not re.fullmatch(r"[!-~]+", token.reveal()):
        raise _unsent(AuthFailed(f"the token of the {what} cannot be sent"))
    seconds = fields.get("expires_in")
    if isinstance(seconds, (int, float)) and seconds > 0:
        return token, min(float(seconds), _LONGEST)
    return token, float(_HOUR)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _variable(read: ReadVariable, name: str) -> str:
    value = read(name)
    return value.reveal() if value is not None else ""


def _unsent(error: AuthFailed | ServerFailed) -> AuthFailed | ServerFailed:
    error.may_be_charged = False
    return error
