"""The gateway's HTTP side: checks the step's token, passes the request on with the real credential, meters the answer.

It streams: each piece of an answer goes on as it comes, but for the piece that tells the answer's cost, which waits
until that is in the books, so that an agent cannot be over before its cost is. Upstream's own errors pass unchanged,
and so does an error inside an answer that began well; both are noted for the step's worker.
"""

import asyncio
import email.utils
import math
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp import web
from django.db import DatabaseError, InterfaceError

from workorders.model_gateway import errors
from workorders.model_gateway.errors import Refusal
from workorders.model_gateway.ledger import Denial, Grant
from workorders.model_gateway.meter import Account, Meter
from workorders.model_gateway.upstream import Upstream, response_headers
from workorders.model_gateway.usage import UsageReader
from workorders.models.model_access import TOKEN_PREFIX, token_hash

logger = structlog.get_logger("workorders")
PATHS = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
_METERED = "/v1/messages"
# The request's model, for telling an unpriced one before it is asked; what the answer names decides the price.
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,200})"')
_MODEL_WITHIN = 4096
_AWAY = (DatabaseError, InterfaceError)
_LIMIT_STATUS = "anthropic-ratelimit-unified-status"
_LONGEST_LIMIT_SECONDS = 31 * 24 * 3600.0


@dataclass(frozen=True)
class GatewayLimits:
    """Sizes in bytes, times in seconds; `side_by_side` requests of one step, more of them wait."""

    request_bytes: int = 33 * 1024 * 1024  # the API's own limit is 32 MB
    answer_bytes: int = 256 * 1024 * 1024
    connect_seconds: float = 15.0
    silence_seconds: float = (
        600.0  # the API pings far more often; a long answer without streaming may take this
    )
    answer_seconds: float = 3600.0
    side_by_side: int = 16
    check_seconds: float = 2.0


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class _Broken(Exception):
    """An answer under way must not go on."""


class Gateway:
    """The application; `app` is what a server runs."""

    def __init__(self, account: Account, upstream: Upstream, limits: GatewayLimits | None = None) -> None:
        self._account = account
        self._upstream = upstream
        self._limits = limits or GatewayLimits()
        self._steps: dict[int, asyncio.Semaphore] = {}
        self._running: dict[asyncio.Task[object], Grant] = {}
        self.app = web.Application(client_max_size=self._limits.request_bytes)
        self.app.router.add_route("*", "/{path:.*}", self._handle)
        self.app.cleanup_ctx.append(self._client)
        self.app.cleanup_ctx.append(self._watching)

    async def _client(self, _app: web.Application) -> AsyncIterator[None]:
        limits = self._limits
        loopback = self._upstream.base_url.startswith("http://")
        self._session = aiohttp.ClientSession(
            auto_decompress=True,
            trust_env=not loopback,  # a proxy of the environment, but never for this machine
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(
                total=limits.answer_seconds,
                sock_connect=limits.connect_seconds,
                sock_read=limits.silence_seconds,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        yield
        await self._session.close()
        await self._account.settle(5.0)

    # --- one request ---

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/healthz":
            return web.json_response(self._health())
        if request.path == "/" and request.method in {"HEAD", "GET"}:
            return web.Response()  # Claude Code warms its connection up with this
        try:
            if request.path not in PATHS or request.method != "POST":
                raise _Refused(errors.NOT_FOUND)
            grant = await self._admit(request)
            return await self._pass_on_in_turn(request, grant)
        except _Refused as error:
            logger.warning(
                "model_request_refused", path=request.path, status=error.refusal.status, reason=str(error)
            )
            return web.json_response(error.refusal.body, status=error.refusal.status)

    def _health(self) -> dict[str, object]:
        upstream = self._upstream
        state = "refused" if upstream.refusal else "ready" if upstream.has_credential else "no_credential"
        return {"status": "ok", "state": state}

    async def _admit(self, request: web.Request) -> Grant:
        """The step the request's token stands for. Raises `_Refused`."""
        token = _token_of(request)
        if not token.startswith(TOKEN_PREFIX):
            raise _Refused(errors.NO_TOKEN)
        try:
            found = await self._account.find(token_hash(token))
        except _AWAY as error:
            logger.warning("model_token_unchecked", error=str(error)[:200])
            raise _Refused(errors.DATABASE_AWAY) from error
        if isinstance(found, Denial):
            raise _Refused(errors.token_refused(found.reason, known=found.known))
        if self._upstream.refusal or not self._upstream.has_credential:
            hint = (
                self._upstream.refusal or "set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN for the workers."
            )
            raise _Refused(errors.no_credential(hint))
        return found

    async def _pass_on_in_turn(self, request: web.Request, grant: Grant) -> web.StreamResponse:
        turn = self._steps.setdefault(grant.access_pk, asyncio.Semaphore(self._limits.side_by_side))
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = grant
        try:
            async with turn:
                return await self._pass_on(request, grant)
        finally:
            del self._running[task]
            if grant.access_pk not in {other.access_pk for other in self._running.values()}:
                self._steps.pop(grant.access_pk, None)

    async def _pass_on(self, request: web.Request, grant: Grant) -> web.StreamResponse:
        started = time.monotonic()
        body = await self._body(request)
        model = _model_in(body)
        if request.path == _METERED:
            await self._check_budget(grant, model)
        meter = self._account.open(grant, model)
        url = self._upstream.url(request.path, request.query_string)
        headers = self._upstream.request_headers(request.headers.items())
        try:
            answer = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._account.close(meter)
            logger.warning("model_unreachable", error=str(error)[:200], **_context(grant))
            raise _Refused(errors.unreachable(error)) from error
        except BaseException:
            self._account.close(meter)
            raise
        try:
            return await self._relay(request, meter, answer)
        finally:
            self._account.close(meter)
            answer.close()
            _log_completed(meter, answer.status, time.monotonic() - started)

    async def _body(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise _Refused(errors.TOO_LARGE) from error

    async def _check_budget(self, grant: Grant, model: str) -> None:
        """Refuse where the step has used up its budget. An answer that crosses it is still delivered."""
        if grant.budget_usd is None:
            return
        spent = self._account.spent(grant)
        if spent >= grant.budget_usd:
            await self._account.refuse_for_budget(grant)
            raise _Refused(errors.over_budget(grant.budget_usd, spent))
        if model and not self._account.has_price(model):
            await self._account.refuse_for_budget(grant)
            raise _Refused(errors.no_price(model))

    async def _relay(
        self, request: web.Request, meter: Meter, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        if answer.status >= 400:
            await self._account.note_error(meter.grant, answer.status, _resets_in(answer))
        elif request.path == _METERED:
            meter.reader = UsageReader(streaming=answer.content_type == "text/event-stream")
        response = web.StreamResponse(
            status=answer.status, headers=response_headers(answer.headers.items(), answer.status)
        )
        await response.prepare(request)
        try:
            await self._copy(response, meter, answer)
        except (aiohttp.ClientError, TimeoutError, _Broken) as error:
            # The agent has the beginning; only a broken connection can say that there is no end.
            logger.warning("model_answer_broken", error=str(error)[:200], **_context(meter.grant))
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _copy(self, response: web.StreamResponse, meter: Meter, answer: aiohttp.ClientResponse) -> None:
        passed, reader = 0, meter.reader
        async for chunk in answer.content.iter_any():
            passed += len(chunk)
            if passed > self._limits.answer_bytes:
                raise _Broken("the answer is larger than is passed on")
            if reader is not None:
                reader.feed(chunk)
                await self._check_price(meter, reader)
                if reader.finished or reader.error_status:
                    await self._write_down(meter, reader)
            await response.write(chunk)
        if reader is not None:
            reader.end()
            await self._check_price(meter, reader)
            await self._write_down(meter, reader)
        await response.write_eof()

    async def _write_down(self, meter: Meter, reader: UsageReader) -> None:
        """What was served first, which ends what an earlier error said; then an error that came inside the answer."""
        await self._account.write_down(meter)
        if reader.error_status and not meter.error_noted:
            meter.error_noted = True
            await self._account.note_error(meter.grant, reader.error_status, None)

    async def _check_price(self, meter: Meter, reader: UsageReader) -> None:
        """What was asked for may be named otherwise than what answers, and only the answer is believed."""
        if meter.grant.budget_usd is None or not reader.model:
            return
        if not self._account.has_price(reader.model, fast=reader.fast):
            await self._account.refuse_for_budget(meter.grant)
            raise _Broken(f"the price of {reader.model} is not known, so the budget cannot be kept")

    # --- steps that end while an answer is under way ---

    async def _watching(self, _app: web.Application) -> AsyncIterator[None]:
        watcher = asyncio.ensure_future(self._watch())
        yield
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher

    async def _watch(self) -> None:
        """Break off answers whose step has ended or was taken over."""
        while True:
            await asyncio.sleep(self._limits.check_seconds)
            if not self._running:
                continue
            running = dict(self._running)
            try:
                valid = await self._account.still_valid(list({grant.access_pk for grant in running.values()}))
            except _AWAY as error:
                logger.warning("model_token_unchecked", error=str(error)[:200])
                continue
            for task, grant in running.items():
                if grant.access_pk not in valid:
                    logger.warning("model_request_broken_off", **_context(grant))
                    task.cancel()


def _token_of(request: web.Request) -> str:
    """As Claude Code sends it for ANTHROPIC_API_KEY, or for ANTHROPIC_AUTH_TOKEN."""
    key = request.headers.get("x-api-key", "")
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    return key or (bearer.strip() if scheme.lower() == "bearer" else "")


def _model_in(body: bytes) -> str:
    found = _MODEL.search(body, 0, _MODEL_WITHIN)
    return found[1].decode("utf-8", "replace") if found else ""


def _log_completed(meter: Meter, status: int, seconds: float) -> None:
    reader = meter.reader
    logger.info(
        "model_request_completed",
        model=(reader.model if reader else "") or meter.model,
        status=status,
        input_tokens=reader.usage.all_input if reader else 0,
        output_tokens=reader.usage.output if reader else 0,
        duration_seconds=round(seconds, 3),
        **_context(meter.grant),
    )


def _context(grant: Grant) -> dict[str, str]:
    return {"work_order": grant.agent_work_order_id}  # not the key that puts a line into the order's own file


def _resets_in(answer: aiohttp.ClientResponse) -> float | None:
    """Seconds until the limit the model told of is lifted, if it says so, by its own clock.

    Answers name a subscription's limit whether or not it is what refused them.
    """
    is_limit = answer.status == 429 and answer.headers.get(_LIMIT_STATUS, "rejected") == "rejected"
    reset = answer.headers.get("anthropic-ratelimit-unified-reset", "")
    wait = answer.headers.get("retry-after", "")
    with suppress(ValueError):
        if reset and is_limit:
            return _bounded(float(reset) - _answered_at(answer))
        if wait:
            return _bounded(float(wait))
    return None


def _bounded(seconds: float) -> float | None:
    """Not longer than any limit lasts; None for what is no length of time."""
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_LIMIT_SECONDS)


def _answered_at(answer: aiohttp.ClientResponse) -> float:
    try:
        return email.utils.parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return time.time()
