"""The tools that the MCP conformance suite expects of a server (Python package `mcp` 2.x), on standard streams."""

from mcp.server.mcpserver import MCPServer
from mcp.types import AudioContent, EmbeddedResource, TextContent, TextResourceContents, ImageContent

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

server = MCPServer("conformance")


def resource(uri, text, kind="text/plain"):
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text))


def image():
    return ImageContent(type="image", data=PNG, mime_type="image/png")


@server.tool()
def test_simple_text() -> str:
    """Gives a simple text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> list[ImageContent]:
    """Gives an image."""
    return [image()]


@server.tool()
def test_audio_content() -> list[AudioContent]:
    """Gives a sound."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


@server.tool()
def test_embedded_resource() -> list[EmbeddedResource]:
    """Gives a resource."""
    return [resource("test://embedded-resource", "This is an embedded resource content.")]


@server.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Gives a text, an image and a resource."""
    text = TextContent(type="text", text="Multiple content types test:")
    return [text, image(), resource("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")]


@server.tool()
def test_error_handling() -> str:
    """Always fails."""
    raise ValueError("This tool intentionally returns an error for testing")


server.run()
