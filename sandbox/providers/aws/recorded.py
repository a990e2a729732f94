"""Types that the emulator lacks: requests are checked against the service's model, then recorded."""

from abc import abstractmethod

from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler, without
from sandbox.providers.records import Records
from sandbox.providers.wire import Properties, same


class Recorded(Handler):
    """A type that exists in the provider's own store only."""

    def __init__(self, aws: Aws, records: Records) -> None:
        super().__init__(aws)
        self.records = records

    @abstractmethod
    def request(self, inputs: Properties) -> None:
        """Send what AWS would be sent to create it; only ever called in a dry run."""

    @abstractmethod
    def new_id(self, inputs: Properties) -> str:
        """Id of a resource that is about to be recorded."""

    def create(self, inputs: Properties) -> str:
        self.aws.dry_run(lambda: self.request(inputs))
        id = self.new_id(inputs)
        self.records.put(self.type, id, inputs)
        return id

    def read(self, id: str, inputs: Properties) -> Properties | None:
        return self.records.get(self.type, id)

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.aws.dry_run(lambda: self.request(new))
        self.records.put(self.type, id, new)

    def delete(self, id: str, state: Properties) -> None:
        self.records.remove(self.type, id)

    def find(self, inputs: Properties) -> str | None:
        for id, recorded in self.records.of_type(self.type).items():
            if self.name and recorded.get(self.name) == inputs.get(self.name):
                return id
            if not self.name and same(without(recorded, "tags"), without(inputs, "tags")):
                return id
        return None
