"""The client's end of a web socket of the agent's API; a refusal comes back as the error it was."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from outlast.errors import Refused, Unreachable
from outlast.wire.client import error_of
from outlast.wire.seal import client_context
from outlast.wire.target import Target, certificates

ClientSocket = aiohttp.ClientWebSocketResponse[bool]
HANDSHAKE_S = 10
MESSAGE_MAX = 1 << 20
HEARTBEAT_S = 20


@asynccontextmanager
async def connect(
    target: Target, path: str, *, what: str, context: ssl.SSLContext | None = None,
    server_name: str = "",
) -> AsyncIterator[ClientSocket]:  # fmt: skip
    """An open web socket.

    path: quoted already. what: what it is, for the error's sentence. context: for https; made from
    this host's certificates when not given. server_name: whom the certificate must name, when it
    is not the address. Raises what the agent raised, Unreachable.
    """
    if target.socket:
        connector: aiohttp.BaseConnector = aiohttp.UnixConnector(target.socket)
    else:
        connector = aiohttp.TCPConnector(ssl=context or client_context(certificates()))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=HANDSHAKE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        url, named = f"{target.base}{path}", server_name or None
        try:
            socket = await session.ws_connect(
                url, max_msg_size=MESSAGE_MAX, heartbeat=HEARTBEAT_S, server_hostname=named
            )
        except aiohttp.WSServerHandshakeError as refusal:
            # a refused web socket loses the reason, a plain request brings it
            async with session.get(url, server_hostname=named) as answer:
                raise error_of(await answer.read()) from refusal
        except aiohttp.ClientConnectorCertificateError as error:
            cause = error.certificate_error
            why = getattr(cause, "verify_message", "") or str(cause)
            raise Refused(
                f"the agent at {target.text} has no good certificate of this pool: {why}",
                hint="'outlast host renew' on that host makes a new one",
            ) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            late = isinstance(error, TimeoutError)
            why = f"no answer within {HANDSHAKE_S} s" if late else error
            raise Unreachable(
                f"no {what} at {target.text}: {why}", hint="is that agent running?"
            ) from error
        async with socket:
            yield socket
