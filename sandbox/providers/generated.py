"""Resources that exist in the stack's state only: what they are is worked out once, when they are created."""

from abc import abstractmethod
from collections.abc import Collection
from typing import ClassVar

from sandbox.providers.errors import ProviderError
from sandbox.providers.provider import Call, Comparison, Connection, Problem, Provider, Resource, changes
from sandbox.providers.schema import problems
from sandbox.providers.wire import UNKNOWN, Properties


class Generated(Resource):
    """A resource whose outputs follow from its inputs, a clock and chance."""

    type: ClassVar[str]
    computed: ClassVar[tuple[str, ...]]
    """Outputs that are not known before it is created."""
    unsupported: ClassVar[frozenset[str]] = frozenset()
    """Inputs of the SDK's class that the stand-in refuses rather than ignore."""
    confidential: ClassVar[frozenset[str]] = frozenset()
    """Outputs that are secret."""
    in_place: ClassVar[frozenset[str]] = frozenset()
    """Inputs that may change without another resource being made."""

    @property
    def secrets(self) -> Collection[str]:
        return self.confidential

    @abstractmethod
    def generate(self, inputs: Properties) -> tuple[str, Properties]:
        """The id, and the outputs beside the inputs."""

    def outdated(self, state: Properties, inputs: Properties) -> Properties:
        """Outputs that time has changed so that another resource must be made."""
        return {}

    def problems(self, inputs: Properties) -> list[Problem]:
        refused = sorted(inputs.keys() & self.unsupported)
        return [
            *problems(self.type, inputs),
            *((key, f"the sandbox's stand-in for {self.type} does not do {key}") for key in refused),
        ]

    def compare(self, old_inputs: Properties, inputs: Properties, state: Properties) -> Comparison:
        outdated = changes({}, self.outdated(state, inputs))
        changed = changes(old_inputs, inputs)
        return Comparison(
            changed={**changed, **outdated},
            replacing={*(changed.keys() - self.in_place), *outdated},
            outputs=frozenset(outdated),
        )

    def plan(self, inputs: Properties) -> Properties:
        return {**inputs, **dict.fromkeys(self.computed, UNKNOWN)}

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        id, outputs = self.generate(inputs)
        return id, {**inputs, **outputs}

    def read(self, id: str, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        if not state:
            raise ProviderError(f"the sandbox cannot import {self.type}: it exists nowhere but in a stack's state")
        return inputs, state

    def plan_update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        return {**state, **inputs}

    def update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        return {**state, **inputs}

    def delete(self, id: str, inputs: Properties, state: Properties) -> None:
        pass


class GeneratedProvider(Provider):
    """A provider all of whose resources are of that kind."""

    kinds: ClassVar[tuple[type[Generated], ...]]

    def connect(self, options: Properties) -> Connection:
        known = {kind.type: kind for kind in self.kinds}

        def resource(call: Call) -> Resource:
            if call.type not in known:
                raise ProviderError(f"the sandbox has no stand-in for {call.type}, only for {', '.join(known)}")
            return known[call.type]()

        return resource
