"""The stand-in for pulumi-random."""

import secrets
import string
from typing import NamedTuple

from sandbox.providers.generated import Generated, GeneratedProvider
from sandbox.providers.provider import Problem
from sandbox.providers.wire import Properties, is_unknown

SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
"""Special characters of the official provider, unless overrideSpecial gives others."""


class _Class(NamedTuple):
    """A class of characters: the inputs that turn it on and say how many there must be of it."""

    switch: str
    minimum: str
    characters: str


CLASSES = (
    _Class("lower", "minLower", string.ascii_lowercase),
    _Class("upper", "minUpper", string.ascii_uppercase),
    _Class("numeric", "minNumeric", string.digits),
    _Class("special", "minSpecial", SPECIAL),
)


class RandomPassword(Generated):
    """random:index/randomPassword:RandomPassword, without its output bcryptHash."""

    type = "random:index/randomPassword:RandomPassword"
    computed = ("bcryptHash", "result")
    confidential = frozenset(computed)

    def problems(self, inputs: Properties) -> list[Problem]:
        found = super().problems(inputs)
        if found or is_unknown(inputs):
            return found
        least = max(1, sum(inputs.get(kind.minimum, 0) for kind in CLASSES))
        if inputs["length"] < least:
            found.append(("length", f"must be at least {least}, the sum of the minimums, not {inputs['length']}"))
        if not any(inputs.get(kind.switch, True) for kind in CLASSES):
            found.append(("length", "all classes of characters are turned off"))
        return found

    def generate(self, inputs: Properties) -> tuple[str, Properties]:
        chance = secrets.SystemRandom()
        own = {"special": inputs.get("overrideSpecial") or SPECIAL}
        allowed = {kind: own.get(kind.switch, kind.characters) for kind in CLASSES if inputs.get(kind.switch, True)}
        required = [
            chance.choice(characters)
            for kind, characters in allowed.items()
            for _ in range(inputs.get(kind.minimum, 0))
        ]
        everything = "".join(allowed.values())
        rest = [chance.choice(everything) for _ in range(inputs["length"] - len(required))]
        password = [*required, *rest]
        chance.shuffle(password)
        defaults = {
            **{kind.switch: True for kind in CLASSES},
            **{kind.minimum: 0 for kind in CLASSES},
        }
        return "none", {**defaults, **inputs, "result": "".join(password)}


class RandomProvider(GeneratedProvider):
    """The stand-in for pulumi-random."""

    title = "Random"
    kinds = (RandomPassword,)
