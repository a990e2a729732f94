"""What is made in a thread: there, or failed, when it is asked for."""

import pytest

from runbook.later import Later


def test_what_is_made_later_is_there_when_it_is_asked_for() -> None:
    assert Later(lambda: 3).get() == 3


def test_an_error_of_what_is_made_later_is_raised_where_it_is_asked_for() -> None:
    later: Later[int] = Later(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        later.get()
