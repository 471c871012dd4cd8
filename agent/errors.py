"""The errors that reach a user. One class a layer; each message names the thing and the way out."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_MESSAGE = 500


class AgentError(Exception):
    """Root of every error this program raises on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class ConfigError(AgentError):
    """The configuration is wrong. ``faults`` holds one line for each fault. Never retried."""

    exit_code = 78

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class MissingError(AgentError):
    """There is nothing to work with: a file that is not there, no device of that kind."""

    exit_code = 69


class SourceError(AgentError):
    """A camera, stream or file cannot be opened or read."""


class MissingSourceError(SourceError, MissingError):
    """The source names a file or device that does not exist."""


class ModelError(AgentError):
    """A model package or an ONNX file is not what it claims to be."""


class MissingModelError(ModelError, MissingError):
    """The model package or the file does not exist."""


class EngineError(AgentError):
    """An engine cannot load or run a graph."""


class DeviceLostError(EngineError):
    """The device that an engine works on answers nothing any more; a new engine may."""


class PluginError(AgentError):
    """A plugin cannot do its work now. ``retry_after`` (seconds) asks the host to call again then."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def in_words(error: BaseException) -> str:
    """``Type: message`` of any exception, fit for a log and for JSON; its own ``__str__`` may fail or be endless."""
    try:
        message = str(error)[:LONGEST_MESSAGE]
    except Exception as failure:  # noqa: BLE001 - foreign code, which has failed already
        message = f"its message cannot be shown ({type(failure).__name__})"
    return f"{type(error).__name__}: {message}".encode("utf-8", "replace").decode()
