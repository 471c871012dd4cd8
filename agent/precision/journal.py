"""What a long piece of work has found so far, on disk, so that it goes on where it was interrupted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import ModelError


class Journal:
    """Results by name in ``folder/journal.json``; a journal of other work (another ``key``) is begun anew.

    Raises ModelError where the folder cannot be written, a full disk included.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._path = folder / "journal.json"
        self._key = key
        self._known = self._read()
        if not self._known:
            shutil.rmtree(folder, ignore_errors=True)
        self.resumed = len(self._known)

    def remember(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of that name; computed, and written down, where it is not known. Plain JSON values only."""
        if name not in self._known:
            self._known[name] = compute()
            self._write()
        return self._known[name]

    def file(self, name: str, content: Callable[[], bytes]) -> Path:
        """A file of the work; made where it is not there yet."""
        path = self.folder / name
        if not path.is_file():
            self._put(path, content())
        return path

    def close(self) -> None:
        """The work is done: nothing is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> dict[str, Any]:
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            return {}
        return content.get("results", {}) if content.get("key") == self._key else {}

    def _write(self) -> None:
        self._put(self._path, msgspec.json.encode({"key": self._key, "results": self._known}))

    def _put(self, path: Path, content: bytes) -> None:
        part = path.with_name(f"{path.name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                # A power cut must not leave a short file under the name by which it is taken for whole.
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise ModelError(f"{path}: cannot be written: {error.strerror}; the package is as it was") from None
