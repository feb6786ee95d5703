"""A small server of tools over pipes or HTTP: ``python -m tests.support.tool_server [port]``."""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
from mcp.server.mcpserver import Image, MCPServer
from mcp_types import ImageContent, ToolAnnotations

__all__: list[str] = []


def build(**settings: Any) -> MCPServer[Any]:
    """Return the server."""
    server = MCPServer("birds", **settings)

    @server.tool()
    def add(a: int, b: int = 1) -> int:
        """Add two numbers."""
        return a + b

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
    def process() -> int:
        """Tell which process answers."""
        return os.getpid()

    @server.tool()
    def fail(why: str) -> str:
        """Fail."""
        raise ValueError(why)

    @server.tool()
    def picture() -> Image:
        """Show a picture."""
        return Image(data=b"\x89PNG\r\n\x1a\n", format="png")

    @server.tool()
    def flood(letters: int) -> str:
        """Say much."""
        return "x" * letters

    @server.tool()
    def garbage() -> ImageContent:
        """Show what is not a picture."""
        return ImageContent(type="image", data="not base64!", mime_type="image/png")

    @server.tool(name="die.now")
    def die() -> None:
        """Die in the middle of the call."""
        os._exit(3)

    @server.tool()
    async def hang() -> None:
        """Never answer."""
        await anyio.sleep_forever()

    return server


if __name__ == "__main__":
    if len(sys.argv) > 1:
        build().run("streamable-http", port=int(sys.argv[1]))
    else:
        build().run()
