"""Parts that are made when something is first asked of them: most goals never need a learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class _Deferred:
    """Stands for a part until it is asked something, and passes on whatever it is asked."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)


def deferred(make: Callable[[], T]) -> T:
    """What `make` gives, made with its modules loaded when an attribute of it is first read."""
    return cast("T", _Deferred(make))
