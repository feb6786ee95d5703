"""AWS: the region, the access key of the environment, of the shared files or of the machine, and signed requests."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dspex._clock import wall_time
from dspex.errors import AuthFailed, ConfigError
from dspex.protocols.headers import HiddenHeaders
from dspex.protocols.model import LM, Secret
from dspex.protocols.wire import OffLoopRun, Post, ReadVariable, Wire
from dspex.services.lm.clouds import metadata
from dspex.services.lm.clouds.files import Hidden, home_of, ini_sections, read_small
from dspex.services.lm.clouds.renewal import Renewal
from dspex.services.lm.clouds.sigv4 import AwsKeys, signed_headers
from dspex.services.lm.wires.bedrock.wire import Bedrock

__all__ = ["AwsCloud", "AwsSigner"]

_WIRE: Final = Bedrock()
_SERVICE: Final = "bedrock"
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}")
_REGION_IN_HOST: Final = re.compile(rf"\.({_REGION.pattern})\.")
_REREAD: Final = 600.0
"""Seconds after which the shared files are read again: other programs renew the keys in them."""
_CONTAINER: Final = "http://169.254.170.2"
_INSTANCE: Final = "http://169.254.169.254"
_ROLES: Final = "/latest/meta-data/iam/security-credentials/"
_EXPORT: Final = 'write `eval "$(aws configure export-credentials --profile {} --format env)"` before you start'


@dataclass(frozen=True, slots=True)
class AwsCloud:
    """
    An account at AWS.

    Attributes:
        region: None: that of the address, of ``AWS_REGION``, of ``AWS_DEFAULT_REGION``, or of the profile.
        profile: Of the shared files; None: ``AWS_PROFILE``, or the one called ``default``.
        metadata: Asks the container's or the instance's own server for keys where there are no others.
    """

    region: str | None = None
    profile: str | None = None
    metadata: bool = False

    hint = (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or AWS_BEARER_TOKEN_BEDROCK; on a machine of "
        "AWS give App(providers={'bedrock': dspex.lm.bedrock(metadata=True)})"
    )

    def place(self, lm: LM, read: ReadVariable) -> tuple[str, Wire]:
        """
        Return the address for a model, and its wire.

        Raises:
            ConfigError: Nothing says which region.
        """
        if lm.api_base is not None:
            base = lm.api_base.rstrip("/")
            self._region_at(base, read)  # says early that there is none
            return base, _WIRE
        region = self._region(read)
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return f"https://bedrock-runtime.{region}.{suffix}", _WIRE

    def signer(self, base_url: str, read: ReadVariable, post: Post, off_loop: OffLoopRun) -> AwsSigner:
        """Return what signs requests to an address; nothing is read yet."""
        return AwsSigner(self, self._region_at(base_url, read), read, off_loop)

    def profile_name(self, read: ReadVariable) -> str:
        """Return the profile in use."""
        return self.profile or _variable(read, "AWS_PROFILE") or "default"

    def _region_at(self, base_url: str, read: ReadVariable) -> str:
        """Return the region that is said, in the address too."""
        found = _REGION_IN_HOST.search(urlsplit(base_url).hostname or "")
        return found[1] if self.region is None and found is not None else self._region(read)

    def _region(self, read: ReadVariable) -> str:
        region = self.region or _variable(read, "AWS_REGION") or _variable(read, "AWS_DEFAULT_REGION")
        region = region or _profile(self.profile_name(read), read).get("region", "")
        if not region:
            raise ConfigError(
                "Bedrock needs a region: set AWS_REGION, or give it as "
                "App(providers={'bedrock': dspex.lm.bedrock(region='us-east-1')})"
            )
        if not _REGION.fullmatch(region):
            raise ConfigError(f"{region!r:.60} is not a region of AWS such as 'us-east-1'")
        return region


class AwsSigner:
    """Signs requests, with keys that are renewed before they run out; its repr shows none."""

    __slots__ = ("_cloud", "_keys", "_off_loop", "_read", "_region", "secrets")

    def __init__(self, cloud: AwsCloud, region: str, read: ReadVariable, off_loop: OffLoopRun) -> None:
        self._cloud = cloud
        self._region = region
        self._read = read
        self._off_loop = off_loop
        self._keys: Renewal[AwsKeys] = Renewal(self._fetch)
        self.secrets: tuple[str, ...] = ()

    async def headers(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers that prove who asks; raises ``AuthFailed`` without keys."""
        keys = await self._keys.get()
        now = wall_time()
        return signed_headers("POST", url, headers, body, keys, region=self._region, service=_SERVICE, now=now)

    def refused(self) -> None:
        """Note that the keys were refused: they are fetched anew for the next request."""
        self._keys.drop()

    async def _fetch(self) -> tuple[AwsKeys, float]:
        keys, seconds = await self._found()
        fresh = [each.reveal() for each in (keys.secret, keys.token) if each is not None]
        if not set(fresh) <= set(self.secrets):
            self.secrets = (*fresh, *self.secrets[:2])  # what is under way was signed with the keys before
        return keys, seconds

    async def _found(self) -> tuple[AwsKeys, float]:
        """Return keys and how long they hold, of the first place that has some."""
        read, cloud = self._read, self._cloud
        if cloud.profile is None and (keys := _keys_of_environment(read)) is not None:
            return keys, math.inf
        name = cloud.profile_name(read)
        try:
            profile = await self._off_loop(_profile, name, read)
        except ConfigError as error:
            raise _unsent(AuthFailed(str(error))) from error
        if profile.get("aws_access_key_id") and profile.get("aws_secret_access_key"):
            token = profile.get("aws_session_token")
            secret = Secret(profile["aws_secret_access_key"])
            return AwsKeys(profile["aws_access_key_id"], secret, Secret(token) if token else None), _REREAD
        if cloud.metadata:
            return await self._of_machine()
        if elsewhere := sorted(each for each in profile if each.startswith(("sso_", "role_", "credential_", "web_"))):
            raise _unsent(
                AuthFailed(
                    f"the profile {name!r} keeps no access key, it says {elsewhere[0]}, which dspex does not follow: "
                    + _EXPORT.format(name)
                )
            )
        if cloud.profile is not None or _variable(read, "AWS_PROFILE"):
            raise _unsent(AuthFailed(f"the shared files of AWS have no access key for the profile {name!r}"))
        raise _unsent(AuthFailed(f"no credentials for AWS: {cloud.hint}"))

    async def _of_machine(self) -> tuple[AwsKeys, float]:
        """Ask the server of the container, else of the instance, by version 2 of its protocol."""
        read = self._read
        relative = _variable(read, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        full = _variable(read, "AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if relative or full:
            what = "container's credentials server"
            url = _CONTAINER + relative if relative else full
            if not metadata.is_own_network(url):
                raise _unsent(
                    AuthFailed("AWS_CONTAINER_CREDENTIALS_FULL_URI is not an address of this machine's network")
                )
            headers = HiddenHeaders()
            if (token := read("AWS_CONTAINER_AUTHORIZATION_TOKEN")) is not None:
                headers["authorization"] = token.reveal()
            if file := _variable(read, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
                headers["authorization"] = await self._off_loop(_token_of, file)
            return _keys_of_server(await metadata.ask_fields(url, headers, what=what), what)
        what = "instance's metadata server"
        base = (_variable(read, "AWS_EC2_METADATA_SERVICE_ENDPOINT") or _INSTANCE).rstrip("/")
        if not metadata.is_own_network(base):
            raise _unsent(AuthFailed("AWS_EC2_METADATA_SERVICE_ENDPOINT is not an address of this machine's network"))
        asking, shown = {"x-aws-ec2-metadata-token-ttl-seconds": "300"}, HiddenHeaders()
        ticket = await metadata.ask(f"{base}/latest/api/token", asking, what=what, method="PUT")
        shown["x-aws-ec2-metadata-token"] = ticket.strip()
        del ticket
        roles = (await metadata.ask(base + _ROLES, shown, what=what)).split()
        if not roles:
            raise _unsent(AuthFailed("the instance has no role, and so no credentials"))
        return _keys_of_server(await metadata.ask_fields(base + _ROLES + roles[0], shown, what=what), what)

    def __repr__(self) -> str:
        return f"<AwsSigner {self._region}>"


def _keys_of_environment(read: ReadVariable) -> AwsKeys | None:
    name, secret = _variable(read, "AWS_ACCESS_KEY_ID"), read("AWS_SECRET_ACCESS_KEY")
    if not name or secret is None:
        return None
    return AwsKeys(name, secret, read("AWS_SESSION_TOKEN"))


def _keys_of_server(fields: Mapping[str, object], what: str) -> tuple[AwsKeys, float]:
    name = metadata.text_under(fields, "AccessKeyId", what)
    secret = Secret(metadata.text_under(fields, "SecretAccessKey", what))
    token = Secret(metadata.text_under(fields, "Token", what))
    end = metadata.text_under(fields, "Expiration", what)
    return AwsKeys(name, secret, token), metadata.seconds_until(end, wall_time(), what)


def _token_of(file: str) -> str:
    try:
        return read_small(Path(file)).strip()
    except ConfigError as error:
        raise _unsent(AuthFailed(f"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: {error}")) from error


def _profile(name: str, read: ReadVariable) -> Hidden:
    """Return the settings of a profile: those of the file of keys go before those of the other."""
    home = home_of(read)
    places = (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    )
    found = Hidden()
    for variable, file, section in places:
        given = _variable(read, variable)
        path = Path(given) if given else home / ".aws" / file if home is not None else None
        if path is not None:
            found.update(ini_sections(read_small(path, missing="")).get(section, {}))
    return found


def _variable(read: ReadVariable, name: str) -> str:
    value = read(name)
    return value.reveal() if value is not None else ""


def _unsent(error: AuthFailed) -> AuthFailed:
    error.may_be_charged = False
    return error
