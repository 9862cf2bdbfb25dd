"""One source, two faces: an operation is written once as a coroutine; the blocking face runs it to its end.

    class Operations:
        @operation
        async def health(self) -> HealthDict: ...

        @operation_giving(Shell)
        async def open_shell(self) -> AsyncShell: ...

    class AsyncClient(Operations, AsyncContext): ...    # await client.open_shell() is an AsyncShell
    class Client(Operations, BlockingContext): ...      # client.open_shell() is a Shell

What an operation gives may have two faces itself: the blocking face of an object wraps its async one. Type checkers see
each face's own signature, and `help` shows it.
"""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, get_args, overload

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


class Blocking:
    """A face whose calls block. `_core` is the async form of the same object, over a transport that never suspends."""

    _core: Any

    def __init__(self, core: Any) -> None:
        self._core = core


class BlockingContext(Blocking):
    """A blocking face that `with` takes; its source has `_leave`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        drive(self._core._leave(exc))  # noqa: SLF001


class Leaves(Protocol):
    """What is a context in both faces."""

    async def _leave(self, exc: BaseException | None) -> None:
        """The end of the block; `exc` is what it raised."""


class AsyncContext:
    """An async face that `async with` takes; its source has `_leave`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self: Leaves, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(exc)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends. RuntimeError: it did suspend, which is a bug of its transport."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking transport suspended")


class Operation(Generic[P, A, B]):
    """A method that is a coroutine on an async face and an ordinary call on a blocking one.

    `faced` makes of what the coroutine gives what the call gives.
    """

    def __init__(
        self, coroutine: Callable[Concatenate[Any, P], Coroutine[Any, Any, A]], faced: Callable[[A], B]
    ) -> None:
        @wraps(coroutine)
        def blocking(face: Blocking, *args: P.args, **kwargs: P.kwargs) -> B:
            return faced(drive(coroutine(face._core, *args, **kwargs)))  # noqa: SLF001

        if faced is not _as_it_is:
            _show(blocking, faced)
        self._forms = _Forms(coroutine, blocking)

    @overload
    def __get__(self, face: Blocking, owner: type) -> Callable[P, B]: ...

    @overload
    def __get__(self, face: object, owner: type) -> Callable[P, Coroutine[Any, Any, A]]: ...

    def __get__(self, face: object, owner: type) -> Callable[..., Any]:
        return self._forms.bound(face, owner)


class Iteration(Generic[P, A, B]):
    """A method that is an async generator on an async face and an ordinary generator on a blocking one."""

    def __init__(
        self, generator: Callable[Concatenate[Any, P], AsyncGenerator[A, None]], faced: Callable[[A], B]
    ) -> None:
        @wraps(generator)
        def blocking(face: Blocking, *args: P.args, **kwargs: P.kwargs) -> Iterator[B]:
            items = generator(face._core, *args, **kwargs)  # noqa: SLF001
            try:
                while True:
                    try:
                        item = drive(items.__anext__())
                    except StopAsyncIteration:
                        return
                    yield faced(item)
            finally:
                drive(items.aclose())

        _show(blocking, _given(generator, faced), Iterator)
        self._forms = _Forms(generator, blocking)

    @overload
    def __get__(self, face: Blocking, owner: type) -> Callable[P, Iterator[B]]: ...

    @overload
    def __get__(self, face: object, owner: type) -> Callable[P, AsyncIterator[A]]: ...

    def __get__(self, face: object, owner: type) -> Callable[..., Any]:
        return self._forms.bound(face, owner)


class Scope(Generic[P, A, B]):
    """A method for `async with` on an async face and for `with` on a blocking one; it yields once, as in contextlib."""

    def __init__(
        self, generator: Callable[Concatenate[Any, P], AsyncGenerator[A, None]], faced: Callable[[A], B]
    ) -> None:
        asynchronous = asynccontextmanager(generator)

        @wraps(generator)
        @contextmanager
        def blocking(face: Blocking, *args: P.args, **kwargs: P.kwargs) -> Iterator[B]:
            scope = asynchronous(face._core, *args, **kwargs)  # noqa: SLF001
            entered = drive(scope.__aenter__())
            try:
                yield faced(entered)
            except BaseException as exc:
                if not drive(scope.__aexit__(type(exc), exc, exc.__traceback__)):
                    raise
            else:
                drive(scope.__aexit__(None, None, None))

        _show(blocking, _given(generator, faced), AbstractContextManager)
        _show(asynchronous, _given(generator, _as_it_is), AbstractAsyncContextManager)
        self._forms = _Forms(asynchronous, blocking)

    @overload
    def __get__(self, face: Blocking, owner: type) -> Callable[P, AbstractContextManager[B]]: ...

    @overload
    def __get__(self, face: object, owner: type) -> Callable[P, AbstractAsyncContextManager[A]]: ...

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


class Fact(property, Generic[T]):
    """A property that both faces have: the blocking one shows that of its core."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        super().__init__(read)

    @overload
    def __get__(self, face: None, owner: type) -> Self: ...

    @overload
    def __get__(self, face: object, owner: type | None = None) -> T: ...

    def __get__(self, face: object, owner: type | None = None) -> Any:
        return super().__get__(face._core if isinstance(face, Blocking) else face, owner)  # noqa: SLF001


fact = Fact


def operation(coroutine: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Operation[P, T, T]:
    """The coroutine as an Operation whose result is the same on both faces."""
    return Operation(coroutine, _as_it_is)


def operation_giving(
    face: Callable[[Any], B],
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, A]]], Operation[P, A, B]]:
    """An Operation that gives an object with two faces; `face` is its blocking one."""
    return lambda coroutine: Operation(coroutine, face)


def iteration(generator: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> Iteration[P, T, T]:
    """The generator as an Iteration whose items are the same on both faces."""
    return Iteration(generator, _as_it_is)


def iteration_giving(
    face: Callable[[Any], B],
) -> Callable[[Callable[Concatenate[Any, P], AsyncGenerator[A, None]]], Iteration[P, A, B]]:
    """An Iteration over objects with two faces; `face` is their blocking one."""
    return lambda generator: Iteration(generator, face)


def scope_giving(
    face: Callable[[Any], B],
) -> Callable[[Callable[Concatenate[Any, P], AsyncGenerator[A, None]]], Scope[P, A, B]]:
    """A Scope of an object with two faces; `face` is its blocking one."""
    return lambda generator: Scope(generator, face)


def _as_it_is(value: T) -> T:
    return value


def _given(generator: Callable[..., Any], faced: Callable[[Any], Any]) -> Any:
    """The class of what a generator yields, on the face that `faced` makes."""
    return get_args(inspect.signature(generator).return_annotation)[0] if faced is _as_it_is else faced


def _show(function: Any, given: Any, container: Any = None) -> None:
    """Have `help` show what this form of the function returns, where its source is annotated with another."""
    returned = given if container is None else container[given]
    function.__signature__ = inspect.signature(function).replace(return_annotation=returned)
