"""The providers' own store, for what the emulator lacks: a JSON file in the state directory."""

import threading
from pathlib import Path

from sandbox.providers.wire import Properties
from sandbox.state import read_json, write_json


class Records:
    """Recorded resources by type and id; every change is on disk before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def of_type(self, type: str) -> dict[str, Properties]:
        """All recorded resources of a type, by id."""
        return self.all().get(type, {})

    def all(self) -> dict[str, dict[str, Properties]]:
        """Everything recorded, by type and id."""
        return read_json(self._path) or {}

    def get(self, type: str, id: str) -> Properties | None:
        """One recorded resource, or None."""
        return self.of_type(type).get(id)

    def put(self, type: str, id: str, properties: Properties) -> None:
        """Record a resource, or replace its record."""
        with self._lock:
            records = self.all()
            records.setdefault(type, {})[id] = properties
            write_json(self._path, records)

    def remove(self, type: str, id: str) -> None:
        """Forget a resource; forgetting twice is no error."""
        with self._lock:
            records = self.all()
            records.get(type, {}).pop(id, None)
            write_json(self._path, {type: entries for type, entries in records.items() if entries})
