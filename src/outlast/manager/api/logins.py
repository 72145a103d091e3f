"""Logging in and out, the own password, the own second factor.

Rules:
1. A login is one step, or two: who needs a code gets half a session first, which is nobody's.
2. Password and second factor of one's own are changed with the password in hand.
3. A secret or recovery code is in one answer, when it is made.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import segno
from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import Field

from outlast.errors import Refused
from outlast.manager.api.answers import ERRORS, GrantBody, Request
from outlast.manager.api.gate import (
    Caller,
    address_of,
    check_forgery,
    enrolling,
    logged_in,
    manager_of,
)
from outlast.manager.api.people import Name, Password, bodies, owner_of
from outlast.manager.outside import OIDC
from outlast.manager.ports import ACTIONS, COOKIE, Session
from outlast.wire.shapes import Answer

Answering = TypeVar("Answering", bound=Response)
router = APIRouter(tags=["people"], responses=ERRORS)


class LoginBody(Request):
    name: Name
    password: Password


class SetUpBody(LoginBody):
    code: str = Field(max_length=200)


class CodeBody(Request):
    code: str = Field(max_length=200)


class ProofBody(Request):
    password: Password = ""


class FactorProof(CodeBody, ProofBody):
    pass


class PasswordChange(Request):
    old: Password
    new: Password


class SessionOut(Answer):
    name: str
    expires_wall_s: float
    csrf: str  # goes into the header X-CSRF-Token
    stage: str = ""  # "" = logged in; code | enrol: what comes first


class MeOut(Answer):
    name: str
    token: bool
    roles: list[GrantBody]
    actions: list[str]  # what the caller may do everywhere
    second_factor: bool
    recovery_left: int


class NewFactorOut(Answer):
    uri: str  # otpauth://, with the secret in it
    svg: str  # the same as a picture, a data: address


class ConfirmedOut(Answer):
    recovery_codes: list[str]  # each is good once, in place of a code
    session: SessionOut


@router.post("/login")
async def login(body: LoginBody, request: HttpRequest, response: Response) -> SessionOut:
    """A session for browsers; programs use tokens.

    With stage "code" it is good for POST /login/code only; with "enrol" for /me/second-factor.
    """
    people = manager_of(request).people
    return opened(await people.login(body.name, body.password, address_of(request)), response)


@router.post("/login/code")
async def login_code(body: CodeBody, request: HttpRequest, response: Response) -> SessionOut:
    """The second step: a code of the app, or a recovery code, with the first step's cookie."""
    await check_forgery(request)
    cookie = request.cookies.get(COOKIE, "")
    people = manager_of(request).people
    return opened(await people.code(cookie, body.code, address_of(request)), response)


@router.post("/set-up")
async def set_up(body: SetUpBody, request: HttpRequest, response: Response) -> SessionOut:
    """Make the first administrator, with the one-time code."""
    people = manager_of(request).people
    session = await people.set_up(body.code, body.name, body.password, address_of(request))
    return opened(session, response)


@router.post("/logout", status_code=204)
async def logout(
    request: HttpRequest, response: Response, caller: Annotated[Caller, logged_in()]
) -> None:
    await caller.manager.people.logout(request.cookies.get(COOKIE, ""))
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict", path="/")


@router.get("/me")
async def me(caller: Annotated[Caller, logged_in()]) -> MeOut:
    person, people = caller.person, caller.manager.people
    factor = await people.factors.of(owner_of(caller))
    return MeOut(
        name=person.name, token=bool(person.token), roles=bodies(person.roles),
        actions=[action for action in ACTIONS if people.may(person, action)],
        second_factor=factor.on, recovery_left=factor.recovery_left,
    )  # fmt: skip


@router.post("/me/password", status_code=204)
async def change_password(body: PasswordChange, caller: Annotated[Caller, logged_in()]) -> None:
    """Your own; all your sessions end."""
    await own_password(caller, body.old, body.new)


async def own_password(caller: Caller, old: str, new: str) -> None:
    """Raises Refused, BadField, Conflict."""
    people, person = caller.manager.people, caller.person
    if person.token:
        raise Refused("a token changes no password", hint="log in")
    await people.verify(person.name, old, caller.address)
    await people.change_user(person, person.name, password=new, address=caller.address)


# ---- the second factor


@router.post("/me/second-factor")
async def begin_factor(body: ProofBody, caller: Annotated[Caller, enrolling()]) -> NewFactorOut:
    """What an authenticator app reads; it counts once a first code confirms it."""
    return NewFactorOut(uri=(uri := await new_factor(caller, body.password)), svg=picture(uri))


@router.post("/me/second-factor/confirm")
async def confirm_factor(
    body: CodeBody, request: HttpRequest, response: Response,
    caller: Annotated[Caller, enrolling()],
) -> ConfirmedOut:  # fmt: skip
    """The first code: the answer has recovery codes, once, and a new session; all others end."""
    codes, session = await first_code(caller, request, body.code)
    return ConfirmedOut(recovery_codes=codes, session=opened(session, response))


@router.post("/me/second-factor/remove", status_code=204)
async def remove_factor(body: FactorProof, caller: Annotated[Caller, enrolling()]) -> None:
    """With password and code; not where it is needed."""
    await end_factor(caller, body.password, body.code)


async def new_factor(caller: Caller, password: str) -> str:
    """An otpauth URI. Whoever has just come with the password is not asked again.

    Raises Refused, Conflict.
    """
    people, name = caller.manager.people, caller.person.name
    if (await people.user(name)).origin == OIDC:
        raise Refused("second factors are your provider's", hint="set one up there")
    if not caller.fresh:
        await people.verify(name, password, caller.address)
    return await people.factors.begin(name)


async def first_code(caller: Caller, request: HttpRequest, code: str) -> tuple[list[str], Session]:
    """Recovery codes and a session. Raises Refused, NotFound."""
    people, name = caller.manager.people, caller.person.name
    codes = await people.factors.confirm(name, code, caller.address)
    return codes, await people.enrolled(request.cookies.get(COOKIE, ""), name, caller.address)


async def end_factor(caller: Caller, password: str, code: str) -> None:
    """Raises Refused, NotFound."""
    people, name = caller.manager.people, caller.person.name
    if people.needs_factor(await people.user(name)):
        raise Refused("you need a second factor here", hint="an administrator can take it away")
    await people.verify(name, password, caller.address)
    await people.factors.check(name, code, caller.address)
    await people.factors.remove(name, name, caller.address)


def picture(uri: str) -> str:
    """The same as a picture, made here: no secret goes to anybody else's QR service."""
    return str(segno.make(uri, error="m").svg_data_uri(scale=5, dark="#000", light="#fff"))


def cookie_for(session: Session, answer: Answering) -> Answering:
    """The answer, with the session's cookie."""
    answer.set_cookie(
        COOKIE, session.cookie_token, secure=True, httponly=True, samesite="strict", path="/"
    )
    return answer


def opened(session: Session, response: Response) -> SessionOut:
    cookie_for(session, response)
    return SessionOut(
        name=session.person.name, expires_wall_s=session.expires_wall_s, csrf=session.csrf,
        stage=session.stage,
    )  # fmt: skip
