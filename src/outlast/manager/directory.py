"""People of a directory (LDAP): who gives the right password there, and in which groups he is.

Promises:
1. The password goes to the directory over checked TLS only, and an empty one goes nowhere: servers
   take it for a login of nobody.
2. Names are put into filters and names of entries escaped; an answer of several entries is nobody.
   Referrals are not followed.
3. A directory that is away, or settings it refuses, are an OutlastError; a wrong password is None.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ldap3 import BASE, NONE, SUBTREE, Connection, Server, Tls
from ldap3.core.exceptions import (
    LDAPException,
    LDAPInvalidCredentialsResult,
    LDAPInvalidDnError,
    LDAPInvalidDNSyntaxResult,
    LDAPNoSuchObjectResult,
    LDAPOperationResult,
    LDAPSizeLimitExceededResult,
    LDAPStartTLSError,
    LDAPUnwillingToPerformResult,
)
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn

from outlast.errors import InvalidInput, Unreachable
from outlast.manager.outside import LDAP, TIMEOUT_S, Ldap, Outsider, context_of, roles_of, secret_of

IDS = ("entryUUID", "objectGUID")  # names of entries are given anew; these never
THREADS = 4
Ask = Callable[[contextlib.ExitStack], Outsider | None]
WRONG = (
    LDAPInvalidCredentialsResult, LDAPInvalidDNSyntaxResult, LDAPInvalidDnError,
    LDAPNoSuchObjectResult, LDAPUnwillingToPerformResult,
)  # fmt: skip


class Checked(Tls):
    """TLS whose names OpenSSL checks by itself; ldap3 compares them with a function of its own."""

    def __init__(self, ca: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context_of(ca)

    def wrap_socket(self, connection: Connection, do_handshake: bool = False) -> None:
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=connection.server.host,
            do_handshake_on_connect=do_handshake,
        )  # fmt: skip


class Directory:
    def __init__(self, settings: Ldap) -> None:
        self._settings = settings
        # of its own: many who log in while the directory hangs keep nothing else from a thread
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="directory")

    async def person(self, name: str, password: str) -> Outsider | None:
        """None: the name or the password is wrong. Raises Unreachable, InvalidInput."""
        if not password or not name:
            return None
        return await self._run(lambda stack: self._person(stack, name, password))

    @property
    def looks(self) -> bool:
        return bool(self._settings.reader)

    async def look(self, name: str) -> Outsider | None:
        """As the reader sees it. Raises Unreachable, InvalidInput."""

        def found(stack: contextlib.ExitStack) -> Outsider | None:
            asked = self._reader(stack)
            entry = self._entry(asked, name)
            return None if entry is None else self._outsider(asked, entry, name)

        return await self._run(found)

    async def _run(self, ask: Ask) -> Outsider | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._asked, ask)

    def _asked(self, ask: Ask) -> Outsider | None:
        try:
            with contextlib.ExitStack() as stack:
                return ask(stack)
        except LDAPOperationResult as error:
            raise InvalidInput(
                f"the directory refuses what this manager asks of it: {error.description}",
                hint="see ldap in manager.json",
            ) from error
        except (LDAPException, OSError) as error:
            raise Unreachable(
                f"the directory {self._settings.server} does not answer: {_words(error)}",
                hint="users whose password is kept here can log in meanwhile",
            ) from error

    def _person(self, stack: contextlib.ExitStack, name: str, password: str) -> Outsider | None:
        known = self._settings
        if known.bind_as:
            filled = known.bind_as.replace("{name}", escape_rdn(name))
            asked = self._bound(stack, filled, password)
            entry = None if asked is None else self._entry(asked, name)
            return None if asked is None or entry is None else self._outsider(asked, entry, name)
        asked = self._reader(stack)
        entry = self._entry(asked, name)
        if entry is None or self._bound(stack, str(entry["dn"]), password) is None:
            return None
        return self._outsider(asked, entry, name)

    def _reader(self, stack: contextlib.ExitStack) -> Connection:
        known = self._settings
        asked = self._bound(stack, known.reader, secret_of(known.reader_password_file))
        if asked is None:
            raise InvalidInput(
                "the directory does not let the reader of manager.json in",
                hint="see reader and reader_password_file",
            )
        return asked

    def _bound(self, stack: contextlib.ExitStack, who: str, password: str) -> Connection | None:
        """An encrypted connection of somebody, closed with the stack; None: not with that password.

        Raises LDAPException.
        """
        parts = urlsplit(self._settings.server)
        direct = parts.scheme == "ldaps"
        tls = Checked(self._settings.ca)
        server = Server(
            str(parts.hostname), parts.port or (636 if direct else 389), use_ssl=direct, tls=tls,
            get_info=NONE, connect_timeout=TIMEOUT_S,
        )  # fmt: skip
        connection = Connection(
            server, who or None, password or None, raise_exceptions=True, auto_referrals=False,
            receive_timeout=int(TIMEOUT_S), check_names=False, read_only=True,
        )  # fmt: skip
        stack.callback(connection.unbind)
        connection.open()
        if not direct and not connection.start_tls():
            raise LDAPStartTLSError("it did not begin TLS")
        try:
            connection.bind()
        except WRONG:
            return None
        return connection

    def _entry(self, connection: Connection, name: str) -> dict[str, Any] | None:
        known = self._settings
        wanted = known.people_filter.replace("{name}", escape_filter_chars(name))
        try:
            connection.search(known.people_base, wanted, SUBTREE, attributes=["cn"], size_limit=2)
        except LDAPSizeLimitExceededResult:
            return None
        found = [e for e in connection.response or () if e["type"] == "searchResEntry"]
        return found[0] if len(found) == 1 else None

    def _outsider(self, connection: Connection, entry: dict[str, Any], name: str) -> Outsider:
        known, dn = self._settings, str(entry["dn"])
        connection.search(dn, "(objectClass=*)", BASE, attributes=list(IDS))
        ids = connection.response[0]["raw_attributes"] if connection.response else {}
        found = next((ids[key][0] for key in IDS if ids.get(key)), None)
        subject = dn.casefold() if found is None else f"id:{found.hex()}"
        wanted = known.groups_filter.replace("{dn}", escape_filter_chars(dn))
        wanted = wanted.replace("{name}", escape_filter_chars(name))
        base = known.groups_base or known.people_base
        connection.search(base, wanted, SUBTREE, attributes=["cn"])
        groups = []
        for group in connection.response or ():
            if group["type"] == "searchResEntry":
                named = group["raw_attributes"].get("cn", ())
                groups += [group["dn"], *(cn.decode(errors="replace") for cn in named)]
        return Outsider(LDAP, subject, name, roles_of(groups, known.roles, str.casefold))


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
