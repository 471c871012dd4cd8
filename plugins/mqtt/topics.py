"""Where each message goes. Names that stand in a topic are escaped here; nothing else builds a topic."""

from __future__ import annotations

from agent import ConfigError

_SPECIAL = frozenset("%+#/")


def escape(name: str) -> str:
    """A name as one topic level: UTF-8, never empty, without ``+ # /`` and characters that MQTT discourages.

    What may not stand is written as in URLs (``a/b`` becomes ``a%2Fb``), ``%`` too: no two names share a level.
    """
    return "".join(_escaped(character) for character in name) or "%"


def _escaped(character: str) -> str:
    code = ord(character)
    control = code < 0x20 or 0x7F <= code < 0xA0
    noncharacter = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    if character in _SPECIAL or control or noncharacter or 0xD800 <= code <= 0xDFFF:
        return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    return character


class Topics:
    """The topics of one node. ConfigError for the name ``all``, which addresses every node at once."""

    def __init__(self, base: str, node: str) -> None:
        if node == "all":
            raise ConfigError("agent.name: 'all' is reserved: it addresses every node; give this one another name")
        self.root = f"{base}/{escape(node)}"
        self.group = f"{base}/all"
        self.status = f"{self.root}/status"
        self.health = f"{self.root}/health"

    def camera(self, name: str, leaf: str) -> str:
        """``leaf``: status, detections, events or snapshot."""
        return f"{self.root}/camera/{escape(name)}/{leaf}"

    def command(self, name: str) -> str:
        """Where a command of ours is asked for."""
        return f"{self.root}/command/{name}"

    def result(self, name: str) -> str:
        """Where a command is answered, also one that nobody knows."""
        return f"{self.root}/command/{escape(name)}/result"

    def relative(self, topic: str) -> str:
        """Another plugin's topic; its slashes divide levels, everything else is escaped. Never leaves the root."""
        return "/".join([self.root, *(escape(level) for level in topic.split("/"))])
