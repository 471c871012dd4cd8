"""What a sink raises when trying again cannot help."""

from __future__ import annotations

from agent import PluginError


class RefusedError(PluginError):
    """The receiver will not take this message, however often it is told: it is wrong, too large, or unwanted."""
