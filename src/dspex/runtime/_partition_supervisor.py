"""A supervisor of many equal children, among which keys are distributed."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import ClassVar, cast

from dspex.errors import ChildError, NoSuchActor, SpecError
from dspex.runtime._child_spec import ChildSpec
from dspex.runtime._children import Child
from dspex.runtime._ref import ActorRef, NamedRef
from dspex.runtime._supervisor import Supervisor
from dspex.runtime._supervisor_ref import Management, SupervisorRef
from dspex.runtime._via import Via

__all__ = ["PartitionSupervisor", "PartitionSupervisorRef", "stable_hash"]

WithArguments = Callable[[tuple[object, ...], int], tuple[object, ...]]


def stable_hash(key: object) -> int:
    """
    Return a number that depends on nothing but the key: the same in every process and on every machine.

    Raises:
        SpecError: The key is not made of None, bool, int, float, str, bytes, enum members and tuples of these.
    """
    return int.from_bytes(blake2b(_encoded(key), digest_size=8).digest(), "big")


def _encoded(key: object) -> bytes:
    """Return bytes that differ where keys do, and where their types do; but True is 1, as everywhere in Python."""
    if isinstance(key, str):
        content = key.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(content), content)
    if isinstance(key, bytes):
        return b"b%d:%b" % (len(key), key)
    if isinstance(key, int):
        return b"%d" % key
    if key is None or isinstance(key, float):
        return repr(key).encode()
    if isinstance(key, tuple):
        return b"(%b)" % b",".join(map(_encoded, key))
    if isinstance(key, enum.Enum):
        content = f"{type(key).__qualname__}.{key.name}".encode()
        return b"e%d:%b" % (len(content), content)
    raise SpecError("key", key, "None, bool, int, float, str, bytes, an enum member or a tuple of these")


@dataclass(frozen=True, slots=True)
class _Resize(Management):
    size: int


class PartitionSupervisorRef(SupervisorRef):
    """A handle on a partition supervisor; routing looks at its tables and sends it nothing."""

    __slots__ = ()

    @property
    def _supervisor(self) -> PartitionSupervisor:
        if not self.alive:
            raise NoSuchActor(self._process.label)
        return cast("PartitionSupervisor", self._process.actor)

    @property
    def size(self) -> int:
        """The number of partitions that keys are distributed among now."""
        return self._supervisor.size

    def partition(self, key: object) -> int:
        """
        Return the number of the partition of ``key``: ``abs(key) % size`` for an int, else by ``stable_hash``.

        Raises:
            NoSuchActor: There is no partition, or no supervisor.
            SpecError: The key cannot be hashed stably.
        """
        size = self._supervisor.size
        if size == 0:
            raise NoSuchActor(f"every partition of {self._process.label}")
        return abs(key) % size if isinstance(key, int) else stable_hash(key) % size

    def route(self, key: object) -> ActorRef:
        """Return the partition of ``key``, this incarnation of it; NoSuchActor also while it is being restarted."""
        number = self.partition(key)
        child = self._supervisor.child(number)
        if child is None or child.process is None or not child.process.alive:
            raise NoSuchActor(f"partition {number} of {self._process.label}")
        return child.process.ref

    def route_named(self, key: object) -> NamedRef:
        """Return the partition of ``key`` by name, so that calls wait for its restart; its spec must have a name."""
        name = self._supervisor.spec.name
        if name is None:
            raise SpecError("name", name, "a name in the spec of the partitions")
        return self._process.runtime.named(_name_of(name, self.partition(key)))

    async def resize(self, size: int) -> None:
        """
        Distribute keys among the first ``size`` partitions: start those that are missing, stop the others.

        Raises:
            SpecError: ``size`` is not between 0 and the number of partitions at the start.
            StartFailed: A partition did not start; those before it are in use.
        Cancellation: the supervisor resizes all the same.
        """
        limit = self._supervisor.partitions
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= limit:
            raise SpecError("size", size, f"an int from 0 to {limit}")
        await self._manage(_Resize(size))


class PartitionSupervisor(Supervisor):
    """
    Keeps ``partitions`` copies of one child alive, ids ``"0"`` to ``"N-1"`` (Elixir's ``PartitionSupervisor``).

    A service that is one actor handles one message at a time; partitioned by key it handles as many as it has
    partitions, and the messages of one key still meet in order in one place.

    Args:
        spec: The spec of each partition; its id is not used, and a name becomes ``name/0``, ``name/1``, ...
            and the key of a ``via`` becomes ``(key, 0)``, ``(key, 1)``, ...
        partitions: The number of partitions; as many as the machine has cores by default.
        with_arguments: ``(args, number) -> args``: the arguments of partition ``number``.
        max_restarts, max_seconds: As for Supervisor; shared by all partitions.

    Raises:
        SpecError: An argument is not valid; it names the field.
    """

    ref_class: ClassVar[type[ActorRef]] = PartitionSupervisorRef

    def __init__(
        self,
        spec: ChildSpec,
        *,
        partitions: int | None = None,
        with_arguments: WithArguments | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> None:
        if not isinstance(spec, ChildSpec):
            raise SpecError("spec", spec, "a ChildSpec")
        count = (os.cpu_count() or 1) if partitions is None else partitions
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise SpecError("partitions", partitions, "an int >= 1")
        self.spec = spec
        self.partitions = self.size = count
        self._specs = tuple(_copy(spec, number, with_arguments) for number in range(count))
        super().__init__(self._specs, max_restarts=max_restarts, max_seconds=max_seconds)

    def child(self, number: int) -> Child | None:
        """Return the record of a partition; None when it has ended for good."""
        return self._children.get(str(number))

    async def _carry_out(self, message: object) -> object:
        if isinstance(message, _Resize):
            await self._resize(message.size)
            return None
        return await super()._carry_out(message)

    async def _add_child(self, spec: ChildSpec) -> object:
        raise ChildError(spec.id, "fixed_partitions")

    async def _resize(self, size: int) -> None:
        before = self.size
        self.size = min(before, size)  # nobody is routed to a partition that is about to stop
        for number in range(before - 1, size - 1, -1):
            child = self.child(number)
            if child is not None:
                self._no_longer_expect(child)
                await self._terminate(child)
        for number in range(before, size):
            child = self._children.setdefault(str(number), Child(self._specs[number], self.backoff))
            if child.state == "stopped" and (failure := await self._start(child)) is not None:
                self._no_longer_expect(child)
                raise failure
            self.size = number + 1


def _copy(spec: ChildSpec, number: int, with_arguments: WithArguments | None) -> ChildSpec:
    args = spec.args if with_arguments is None else with_arguments(spec.args, number)
    name = None if spec.name is None else _name_of(spec.name, number)
    via = None if spec.via is None else Via(spec.via.registry, (spec.via.key, number), spec.via.value)
    return replace(spec, id=str(number), args=args, name=name, via=via)


def _name_of(name: str, number: int) -> str:
    return f"{name}/{number}"
