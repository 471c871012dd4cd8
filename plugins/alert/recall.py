"""The rules' memory on disk: one small JSON file, replaced whole."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from plugins.alert.rules import Memory

log = logging.getLogger(__name__)


class Recall:
    """``load`` and ``save``. A file that cannot be read is named and begun anew: the worst is one alert twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complained = False

    def load(self) -> Memory:
        """What was saved; nothing when there is no file or it is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("alert: %s cannot be read (%s); cooldowns and open alerts begin anew", self._path, error)
            return Memory()

    def save(self, memory: Memory) -> bool:
        """Write; whether it worked. A full disk costs the memory of a restart, never an alert."""
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(memory))
            os.replace(temporary, self._path)
        except OSError as error:
            if not self._complained:
                log.warning("alert: %s cannot be written (%s); a restart forgets cooldowns", self._path, error)
            self._complained = True
            return False
        self._complained = False
        return True
