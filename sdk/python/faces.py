"""One source, two faces: an operation is written once as a coroutine; the blocking face runs it to its end.

    class Operations:
        @operation
        async def health(self) -> HealthDict: ...

    class AsyncClient(Operations): ...            # await client.health()
    class Client(Operations, Blocking): ...       # client.health()

Type checkers see each face's own signature, and `help` shows it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """A face whose calls block. `_core` is the async form of the same object, over a transport that never suspends."""

    _core: Any


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends. RuntimeError: it did suspend, which is a bug of its transport."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking transport suspended")


class Operation(Generic[P, T]):
    """A method that is a coroutine on an async face and an ordinary call on a blocking one."""

    def __init__(self, coroutine: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        @wraps(coroutine)
        def blocking(face: Blocking, *args: P.args, **kwargs: P.kwargs) -> T:
            return drive(coroutine(face._core, *args, **kwargs))  # noqa: SLF001

        self._forms = _Forms(coroutine, blocking)

    @overload
    def __get__(self, face: Blocking, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, face: object, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, face: object, owner: type) -> Callable[..., Any]:
        return self._forms.bound(face, owner)


class Iteration(Generic[P, T]):
    """A method that is an async generator on an async face and an ordinary generator on a blocking one."""

    def __init__(self, generator: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> None:
        @wraps(generator)
        def blocking(face: Blocking, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            items = generator(face._core, *args, **kwargs)  # noqa: SLF001
            try:
                while True:
                    try:
                        item = drive(items.__anext__())
                    except StopAsyncIteration:
                        return
                    yield item
            finally:
                drive(items.aclose())

        self._forms = _Forms(generator, blocking)

    @overload
    def __get__(self, face: Blocking, owner: type) -> Callable[P, Iterator[T]]: ...

    @overload
    def __get__(self, face: object, owner: type) -> Callable[P, AsyncIterator[T]]: ...

    def __get__(self, face: object, owner: type) -> Callable[..., Any]:
        return self._forms.bound(face, owner)


class _Forms:
    """The two functions that a method is; the class that it is looked up on chooses."""

    def __init__(self, asynchronous: Callable[..., Any], blocking: Callable[..., Any]) -> None:
        self._asynchronous = asynchronous
        self._blocking = blocking

    def bound(self, face: object, owner: type) -> Callable[..., Any]:
        form: Any = self._blocking if issubclass(owner, Blocking) else self._asynchronous
        function: Callable[..., Any] = form.__get__(face, owner)
        return function


operation = Operation
iteration = Iteration
