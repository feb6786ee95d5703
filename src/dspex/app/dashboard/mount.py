"""The page inside somebody else's web service."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dspex.app.dashboard.hub import Audience
from dspex.app.dashboard.notes import Notes
from dspex.app.dashboard.options import Dashboard
from dspex.app.dashboard.server import check_extra
from dspex.errors import ConfigError

if TYPE_CHECKING:
    from dspex.app._app import App
    from dspex.app._tree import AppTree

__all__ = ["mount_dashboard"]


def mount_dashboard(service: Any, path: str, app: App, dashboard: Dashboard) -> None:
    """
    Show the page of ``app`` below ``path`` of a service that runs in the same loop.

    For example::

        service = FastAPI(lifespan=lifespan)  # which starts the App
        dspex.mount_dashboard(service, "/dspex", app, dspex.Dashboard(token=TOKEN, hosts=("dash.example.com",)))

    Every viewer needs the token: only the service knows from where it can be reached. Its ``address`` is not used.
    Requests are remembered from the first look on.

    Args:
        service: A Starlette or FastAPI application, or whatever has their ``mount(path, app)``.
        path: For example ``"/dspex"``.
        app: The App; it may be started later.
        dashboard: The token, the names by which browsers call the service, and what may be shown.

    Raises:
        ConfigError: There is no token, or the path does not begin with a slash.
        MissingExtra: The extra ``dashboard`` is not installed.
    """
    check_extra()
    if dashboard.token is None:
        raise ConfigError("a dashboard inside a service needs a token: Dashboard(token=…)")
    if not path.startswith("/") or path.endswith("/"):
        raise ConfigError(f"mount_dashboard: path={path!r} must begin with a slash and end without one")
    web = importlib.import_module("dspex.app.dashboard.web")
    latest: list[Audience] = []  # of the tree that runs: an App that is started again has another

    def find() -> tuple[AppTree, Notes, Audience]:
        tree = app.running_tree()
        notes = tree.watch(capture=dashboard.capture, note=dashboard.note)
        if not latest or latest[0].hub is not tree.hub:
            for gone in latest:
                gone.close()
            latest[:] = [Audience(tree.hub)]
        return tree, notes, latest[0]

    service.mount(path, web.web_app(web.Watched(find), dashboard, dashboard.token, closed=True))
