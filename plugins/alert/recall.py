"""What the plugin remembers, on disk: small JSON files, each replaced whole."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)


class Recall(Generic[S]):
    """``load`` and ``save`` of one struct. A file that cannot be read is named and begun anew: the worst is one alert
    twice."""

    def __init__(self, path: Path, kind: type[S]) -> None:
        self._path = path
        self._kind = kind
        self._complained = False

    def load(self) -> S:
        """What was saved; nothing when there is no file or it is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=self._kind)
        except FileNotFoundError:
            return self._kind()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("alert: %s cannot be read (%s); cooldowns and open alerts begin anew", self._path, error)
            return self._kind()

    def save(self, memory: S) -> bool:
        """Write; whether it worked. A full disk costs the memory of a restart, never an alert."""
        temporary = self._path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(memory))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            if not self._complained:
                log.warning("alert: %s cannot be written (%s); a restart forgets cooldowns", self._path, error)
            self._complained = True
            return False
        self._complained = False
        return True
