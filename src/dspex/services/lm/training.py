"""Trainings at providers: one request at a time over a connection of its own; bounded answers, typed errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from dspex._clock import wall_time
from dspex.errors import AuthFailed, ConfigError, LMError, ResponseInvalid
from dspex.protocols.headers import HiddenHeaders, is_credential
from dspex.protocols.local import LocalLM
from dspex.protocols.model import LM, LMChoice, LMPool
from dspex.protocols.training import TrainingCall, TrainingEvent, TrainingJob, TrainingOrder, TrainingWire
from dspex.protocols.wire import Provider
from dspex.services.lm._failures import transport_failed
from dspex.services.lm.keyed_endpoint import KeyedEndpoint
from dspex.services.lm.proxies import Proxies
from dspex.services.lm.redact import Redactor
from dspex.services.lm.transport import Network, Timeouts
from dspex.services.lm.wires._errors import completed

if TYPE_CHECKING:
    import httpx

    from dspex.services.lm.gateway import LMGateway

__all__ = ["TrainingGateway"]

T = TypeVar("T")

MAX_ANSWER: Final = 8 * 2**20
"""Bytes of an answer beyond which it is refused."""

PAGES: Final = 50
"""Pages of trainings that are looked through for one."""

SILENCE: Final = 60.0
"""Seconds of silence after which an answer is given up, and the longest for which the server may take nothing."""


class TrainingGateway:
    """
    Implements ``protocols.TrainingService`` for the App's models, with their keys and at their addresses.

    Args:
        lms: Finds models, and the endpoint and key of each.
        providers: Those that models may name.
        network: The App's settings of its network.
    """

    def __init__(self, lms: LMGateway, providers: Mapping[str, Provider], network: Network) -> None:
        self._lms = lms
        self._providers = providers
        self._network = network

    def record(self, lm: LMChoice) -> LM:
        """Return the record of a model that can be trained, as ``protocols.TrainingService.record`` says."""
        found = self._lms.resolve(lm)
        if isinstance(found, LMPool):
            raise ConfigError(f"a pool cannot be trained ({found.model}): give the program one model")
        if isinstance(found, LocalLM):
            raise ConfigError(f"{found.model} answers by itself: dspex cannot train it")
        self._wire(found)
        return found

    def _wire(self, lm: LM) -> TrainingWire:
        provider = self._providers.get(lm.provider)
        if provider is None or provider.training is None:
            able = ", ".join(sorted(name for name, each in self._providers.items() if each.training is not None))
            raise ConfigError(
                f"dspex knows no training at the provider of {lm.model!r} (it does of {able}); training_data writes "
                f"the file for the provider's own tools"
            )
        return provider.training

    # --- what is asked --------------------------------------------------------------------------------------

    async def find(self, lm: LM, mark: str) -> TrainingJob | None:
        """Return the latest training with a mark, as ``protocols.TrainingService.find`` says."""
        wire, after = self._wire(lm), ""
        for page in range(PAGES):
            jobs, after = await self._ask(lm, wire.jobs(mark, after), f"{mark}-find-{page}", wire.read_jobs)
            found = next((each for each in jobs if each.mark == mark), None)
            if found is not None or not after:
                return found
        return None

    async def upload(self, lm: LM, name: str, lines: Sequence[Mapping[str, object]]) -> str:
        """Upload training data, and return the file's id. Cancellation: it may be there all the same."""
        wire = self._wire(lm)
        return await self._ask(lm, wire.upload(name, lines), name, wire.read_upload)

    async def submit(self, lm: LM, order: TrainingOrder) -> TrainingJob:
        """Begin a training, as ``protocols.TrainingService.submit`` says."""
        wire = self._wire(lm)
        return await self._ask(lm, wire.submit(order), order.mark, wire.read_job)

    async def look(self, lm: LM, job: str) -> TrainingJob:
        """Return the state of a training."""
        wire = self._wire(lm)
        return await self._ask(lm, wire.look(job), f"{job}-look", wire.read_job)

    async def events(self, lm: LM, job: str) -> tuple[TrainingEvent, ...]:
        """Return the latest lines of a training's log."""
        wire = self._wire(lm)
        return await self._ask(lm, wire.events(job), f"{job}-events", wire.read_events)

    async def cancel(self, lm: LM, job: str) -> TrainingJob:
        """Stop a training. Cancellation: it may be stopped all the same."""
        wire = self._wire(lm)
        return await self._ask(lm, wire.cancel(job), f"{job}-cancel", wire.read_job)

    # --- how it is asked ------------------------------------------------------------------------------------

    async def _ask(
        self, lm: LM, call: TrainingCall, name: str, read: Callable[[int, Mapping[str, str], bytes], T]
    ) -> T:
        """
        Send one request under an idempotency key, and read its answer, without the secrets that it repeats.

        Raises:
            LMError: No answer came, one that is too long, or one that ``read`` refuses.
        """
        keyed = self._lms.endpoint_of(lm)
        endpoint = keyed.endpoint
        if keyed.key is None and endpoint.needs_key:
            raise AuthFailed(f"no API key for {endpoint.provider}: {endpoint.key_hint}")
        headers = HiddenHeaders(endpoint.wire.headers(keyed.key, idempotency_key=name, attempt=1))
        headers["accept-encoding"] = "identity"  # httpx unpacks without a bound
        if call.content_type:
            headers["content-type"] = call.content_type
        else:
            headers.pop("content-type", None)
        for each, value in endpoint.headers.items():
            headers[each] = value.reveal()
        redactor = _redactor(keyed)
        problem: LMError | None = None
        try:
            status, told, body = await self._exchange(endpoint.base_url + call.path, call, headers)
        except ResponseInvalid as error:
            problem = error
        except _failures() as error:
            problem = transport_failed(error, _origin(endpoint.base_url), self._timeouts().phases())
        if problem is not None:
            raise redactor.error(problem)  # here, where the library's exception is no longer handled
        told, body = redactor.answer(told, body)
        try:
            return redactor.record(read(status, told, body))
        except LMError as error:
            raise redactor.error(completed(error, told, now=wall_time(), key_hint=endpoint.key_hint)) from None

    async def _exchange(
        self, url: str, call: TrainingCall, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx  # too heavy for ``import dspex``

        client, mine = self._client(url)
        try:
            phases = httpx.Timeout(**self._timeouts().phases())
            async with client.stream(
                call.method, url, content=call.body or None, headers=dict(headers), timeout=phases
            ) as answer:
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise ResponseInvalid("the provider packed its answer about a training, which was not asked for")
                body = bytearray()
                async for piece in answer.aiter_bytes(65_536):
                    body += piece
                    if len(body) > MAX_ANSWER:
                        raise ResponseInvalid(f"the provider answered more than {MAX_ANSWER} bytes about a training")
                return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, bytes(body)
        finally:
            if mine:
                await client.aclose()

    def _client(self, url: str) -> tuple[httpx.AsyncClient, bool]:
        """Return a client, and True where closing it closes nothing of the user's."""
        import httpx  # too heavy for ``import dspex``

        network = self._network
        if network.transport is not None:
            return httpx.AsyncClient(transport=network.transport, trust_env=False, follow_redirects=False), False
        proxy = network.proxy.for_url(url) if isinstance(network.proxy, Proxies) else network.proxy
        verify = network.verify
        if verify is True:
            verify = httpx.create_ssl_context(trust_env=False) if url.startswith("https") else False
        return httpx.AsyncClient(verify=verify, trust_env=False, follow_redirects=False, proxy=proxy or None), True

    def _timeouts(self) -> Timeouts:
        given = self._network.timeouts or Timeouts()
        return Timeouts(connect=given.connect, read=min(given.read, SILENCE), write=min(given.write, SILENCE))


def _failures() -> tuple[type[Exception], ...]:
    import httpx  # too heavy for ``import dspex``

    return (httpx.TransportError, httpx.DecodingError, OSError)


def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _redactor(keyed: KeyedEndpoint) -> Redactor:
    credentials = [value.reveal() for name, value in keyed.endpoint.headers.items() if is_credential(name)]
    keys = [*([keyed.key.reveal()] if keyed.key is not None else []), *credentials]
    return Redactor(tuple(each.removeprefix("Bearer ") for each in keys))
