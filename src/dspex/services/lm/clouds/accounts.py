"""Accounts at clouds as users give them: ``App(providers={"bedrock": dspex.lm.bedrock(region="eu-west-1")})``."""

from __future__ import annotations

from pathlib import Path

from dspex.protocols.wire import Provider
from dspex.services.lm.clouds.aws import AwsCloud
from dspex.services.lm.clouds.google import GoogleCloud
from dspex.services.lm.wires.bedrock.wire import Bedrock
from dspex.services.lm.wires.vertex.wire import VertexGemini

__all__ = ["bedrock", "vertex"]


def bedrock(*, region: str | None = None, profile: str | None = None, metadata: bool = False) -> Provider:
    """
    Return Amazon Bedrock as an account of yours reaches it.

    The access key is that of ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN``, else of the
    profile in ``~/.aws/credentials`` or ``~/.aws/config``. Keys with an end are renewed before it.

    Args:
        region: Without one: that of ``AWS_REGION``, of ``AWS_DEFAULT_REGION``, or of the profile.
        profile: Of the shared files, which goes before the environment's key; without one ``AWS_PROFILE``, or
            ``default``.
        metadata: Asks the server of the container or instance for keys where there are no others.
    """
    return Provider("", Bedrock(), ("AWS_BEARER_TOKEN_BEDROCK",), cloud=AwsCloud(region, profile, metadata))


def vertex(
    *,
    project: str | None = None,
    location: str | None = None,
    credentials: str | Path | None = None,
    metadata: bool = False,
) -> Provider:
    """
    Return Vertex AI as an account of yours reaches it: Gemini, and Claude for models that are called so.

    Args:
        project: Without one: that of ``GOOGLE_CLOUD_PROJECT``, or of the file of credentials.
        location: Without one: that of ``GOOGLE_CLOUD_LOCATION``, or ``global``.
        credentials: The file of a service account, or of ``gcloud auth application-default login``; without one
            ``GOOGLE_APPLICATION_CREDENTIALS``, or the file that gcloud wrote.
        metadata: Asks the machine's own server for tokens where there is no file.
    """
    cloud = GoogleCloud(project, location, credentials, metadata)
    return Provider("", VertexGemini(), ("CLOUDSDK_AUTH_ACCESS_TOKEN",), cloud=cloud)
