"""The console: pages for people, made on the server, of the same services as the API.

    gate.py      who looks, and may they         render.py    templates, icons, times, errors
    static.py    the files beside the pages      forms.py     what people typed
    sign_in.py   coming and going                factors.py   the own second factor
    pools.py     pools and hosts                 hosts.py     hosts of all pools
    vms.py       the list, one VM                wishes.py    buttons: dialog, command, wish
    journal.py   failovers, tasks, audit         people.py    users and tokens
    moments.py   one step of what happened       stories.py   what belongs together
    incidents.py one story as a whole            verdicts.py  what came of it
    edits.py     settings of VMs and pools  filters.py   the list's address
    cancels.py   wishes taken back          remaining.py how long they still take
    verbs.py     wishes as sentences
    bulk.py      wishes for many VMs        runs.py      how far those are
    views.py     addresses with names       rows.py      how many changed place
    settings.py  of the manager itself           rolling.py   maintenance host by host
    equipment.py networks, storage, images, templates; stock.py asks for them,
                 equipment_buttons.py wishes about them
    reference.py the API, described
    live.py      the stream of fragments         foresight.py what would happen if
    terminal.py  console and screen    tunnel.py   its tickets and the way to the VM
    charts.py    numbers over time
    health.py    states as words and shapes      pictures/    data in, SVG out

Rules:
1. Nothing is read or written here that the API could not; rights are those of rights.py.
2. Every page works without scripts; scripts make it live. No page holds a script or a style of its
   own: the content security policy has no exception, and a test reads every template.
3. Every button that wishes something of a pool shows the command that does the same.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from outlast.errors import OutlastError
from outlast.manager.acts_port import Acts
from outlast.manager.ports import People, Reads
from outlast.manager.web import (
    bulk,
    cancels,
    charts,
    equipment,
    factors,
    hosts,
    incidents,
    journal,
    live,
    moments,
    people,
    pools,
    reference,
    render,
    rolling,
    settings,
    sign_in,
    static,
    terminal,
    views,
    vms,
    wishes,
)
from outlast.manager.web.room import Room


def attach(app: FastAPI, reads: Reads, acts: Acts, people_: People) -> None:
    """Adds the pages to an application that `api.app.build` made of these services."""
    manager = app.state.manager
    assert (manager.reads, manager.acts, manager.people) == (reads, acts, people_)
    app.state.web = Room(manager)
    router = APIRouter(include_in_schema=False)
    for part in (
        sign_in, factors, pools, hosts, views, bulk, vms, charts, equipment, terminal, wishes,
        cancels, journal, incidents, moments, people, settings, rolling, reference, live, static,
    ):  # fmt: skip
        router.include_router(part.router)
    app.include_router(router)
    for kind in (OutlastError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, render.failure_of(app.exception_handlers[kind]))
