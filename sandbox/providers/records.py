"""The providers' own store, for what the emulator lacks: a JSON file in the state directory."""

from pathlib import Path

from filelock import FileLock

from sandbox.errors import SandboxError
from sandbox.providers.wire import Properties
from sandbox.state import read_json, write_json


class Records:
    """Recorded resources by type and id; every change is on disk before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_suffix(".lock"))

    def of_type(self, type: str) -> dict[str, Properties]:
        """All recorded resources of a type, by id."""
        return self.all().get(type, {})

    def all(self) -> dict[str, dict[str, Properties]]:
        """Everything recorded, by type and id."""
        records = read_json(self._path)
        if not all(isinstance(entries, dict) for entries in records.values()):
            raise SandboxError(f"reading {self._path}: it is damaged; delete the sandbox's whole folder and start anew")
        return records

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
