"""The tree of errors, as the top of errors.py draws it."""

from __future__ import annotations

import re

import pytest

from neologism import errors

CLASSES = [value for value in vars(errors).values() if isinstance(value, type)]


def test_every_error_is_drawn_with_its_exit_code() -> None:
    drawn = re.findall(r"^(?:\+-- )?(\w+Error) (\d)", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [(error.__name__, str(error.exit_code)) for error in CLASSES]


def test_exit_codes_differ_and_leave_out_success() -> None:
    codes = [error.exit_code for error in CLASSES]
    assert sorted(codes) == list(range(1, len(codes) + 1))


@pytest.mark.parametrize("error", CLASSES[1:])
def test_every_error_is_of_the_one_root(error: type[errors.NeologismError]) -> None:
    assert error.__bases__ == (errors.NeologismError,)


def test_a_plain_bug_is_not_of_the_tree() -> None:
    assert not issubclass(ValueError, errors.NeologismError)
    assert errors.NeologismError.__bases__ == (Exception,)
