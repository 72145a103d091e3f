"""Two doors to a pool's images and templates: its directory, and an agent afar or a manager.

Rules:
1. Which door is taken, and that both take and give the same, are as in equipment_doors.py.
2. Whole copies, and disks in other places than the pool's own storage, take long: they are made on
   the host that asks for them, at its own door.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from outlast.cli.context import Options
from outlast.cli.pool_files import folder_on, pool_dir_of
from outlast.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from outlast.cli.waiting import Tell
    from outlast.images.clones import Wanted
    from outlast.wire.client import AgentClient
    from outlast.wire.images import ImageInfo
    from outlast.wire.shapes import VmWish
    from outlast.wire.templates import TemplateInfo, TemplateWish

Named = TypeVar("Named", "ImageInfo", "TemplateInfo")


class ImageDoor(Protocol):
    def all(self) -> list[ImageInfo]: ...

    def get(self, name: str) -> ImageInfo: ...

    def take(self, name: str, source: str, sha256: str, rate_bytes_s: int, tell: Tell) -> ImageInfo:
        """Import it; from afar, an address or a file that lies in the pool's `import` already."""

    def remove(self, name: str) -> None: ...


class TemplateDoor(Protocol):
    def all(self) -> list[TemplateInfo]: ...

    def get(self, name: str) -> TemplateInfo: ...

    def create(self, wish: TemplateWish, rate_bytes_s: int, tell: Tell) -> TemplateInfo: ...

    def remove(self, name: str) -> None: ...

    def folder(self, full: bool, on: str) -> Path | None:
        """For disks of new VMs; None = beside their template. Raises InvalidInput for what this
        door cannot, NotFound, StorageTrouble."""

    def deploy(
        self, template: TemplateInfo, vm: str, wanted: Wanted, memory_mib: int, vcpus: int
    ) -> VmWish:
        """A new VM; its networks are the template's."""


def images(chosen: Options, pool: Path | None) -> ImageDoor:
    """Raises InvalidInput, NotFound when this machine is no host."""
    return (
        _ImagesAfar(chosen.client()) if chosen.afar and not pool else _ImagesHere(pool_dir_of(pool))
    )


def templates(chosen: Options, pool: Path | None) -> TemplateDoor:
    """Raises InvalidInput, NotFound when this machine is no host."""
    if chosen.afar and not pool:
        return _TemplatesAfar(chosen.client())
    return _TemplatesHere(pool, chosen.client())


class _ImagesHere:
    def __init__(self, pool_dir: Path) -> None:
        from outlast.images.library import Library

        self._library = Library(pool_dir)

    def all(self) -> list[ImageInfo]:
        from outlast.wire.images import ImageInfo

        return [ImageInfo(**self._library.told(image)) for image in self._library.all()]

    def get(self, name: str) -> ImageInfo:
        from outlast.wire.images import ImageInfo

        return ImageInfo(**self._library.told(self._library.get(name)))

    def take(self, name: str, source: str, sha256: str, rate_bytes_s: int, tell: Tell) -> ImageInfo:
        from outlast.images.library import percent_of

        self._library.take(
            name, source, sha256=sha256, rate_bytes_s=rate_bytes_s, progress=percent_of(tell)
        )
        return self.get(name)

    def remove(self, name: str) -> None:
        self._library.remove(name)


class _ImagesAfar:
    def __init__(self, client: AgentClient) -> None:
        from outlast.wire.images import ImageClient

        self._client = ImageClient(client)

    def all(self) -> list[ImageInfo]:
        return self._client.all()

    def get(self, name: str) -> ImageInfo:
        return _named(name, self.all(), "image")

    def take(self, name: str, source: str, sha256: str, rate_bytes_s: int, tell: Tell) -> ImageInfo:
        from outlast.cli.waiting import follow
        from outlast.wire.images import ImageImport
        from outlast.wire.shapes import make

        if "/" in source and "://" not in source:
            raise InvalidInput(
                f"nobody there is to look for {source} on a host",
                hint=f"send a file that is here: outlast image upload {name} {source}",
            )
        wish = make(ImageImport, source=source, sha256=sha256, rate_bytes_s=rate_bytes_s)
        follow(
            lambda: self._client.import_(name, wish), lambda: self._client.importing(name),
            lambda: self._client.give_up(name), tell,
        )  # fmt: skip
        return self.get(name)

    def remove(self, name: str) -> None:
        self._client.remove(name)


class _TemplatesHere:
    """client: the agent that writes down new VMs."""

    def __init__(self, pool: Path | None, client: AgentClient) -> None:
        from outlast.images.templates import Templates

        self._pool, self._pool_dir, self._client = pool, pool_dir_of(pool), client
        self._templates = Templates(self._pool_dir)

    def all(self) -> list[TemplateInfo]:
        from outlast.images.templates import disks_of_vms
        from outlast.wire.templates import TemplateInfo

        found = self._templates.told(disks_of_vms(self._pool_dir))
        return [TemplateInfo(**one) for one in found]

    def get(self, name: str) -> TemplateInfo:
        self._templates.get(name)  # says what is wrong with a damaged one
        return _named(name, self.all(), "template")

    def create(self, wish: TemplateWish, rate_bytes_s: int, tell: Tell) -> TemplateInfo:
        from outlast.images.library import percent_of

        self._templates.create(
            wish.name, wish.image, wish.memory >> 20, wish.vcpus, tuple(wish.networks), wish.note,
            rate_bytes_s=rate_bytes_s, progress=percent_of(tell),
        )  # fmt: skip
        return self.get(wish.name)

    def remove(self, name: str) -> None:
        self._templates.remove(name)

    def folder(self, full: bool, on: str) -> Path | None:
        return folder_on(on, self._pool)

    def deploy(
        self, template: TemplateInfo, vm: str, wanted: Wanted, memory_mib: int, vcpus: int
    ) -> VmWish:
        from outlast.images.clones import of_template
        from outlast.images.making import make_vm
        from outlast.wire.hardware import OF_TEMPLATE
        from outlast.wire.shapes import VmCreate, make

        def create(paths: list[str]) -> VmWish:
            wish = make(
                VmCreate, name=vm, memory=memory_mib << 20, vcpus=vcpus, use_existing=True,
                disks=[{"path": path} for path in paths], networks=template.networks,
                hardware=OF_TEMPLATE,
            )  # fmt: skip
            return self._client.create(wish)

        source = of_template(self._pool_dir, self._templates.get(template.name))
        return make_vm(self._pool_dir, vm, source, wanted, create)


class _TemplatesAfar:
    def __init__(self, client: AgentClient) -> None:
        from outlast.wire.templates import TemplateClient

        self._client = TemplateClient(client)

    def all(self) -> list[TemplateInfo]:
        return self._client.all()

    def get(self, name: str) -> TemplateInfo:
        return _named(name, self.all(), "template")

    def create(self, wish: TemplateWish, rate_bytes_s: int, tell: Tell) -> TemplateInfo:
        self._client.create(wish)
        return self.get(wish.name)

    def remove(self, name: str) -> None:
        self._client.remove(name)

    def folder(self, full: bool, on: str) -> Path | None:
        if full or on:
            raise InvalidInput(
                "whole copies (--full, --on) are made on a host of the pool",
                hint="run the same command there",
            )
        return None

    def deploy(
        self, template: TemplateInfo, vm: str, wanted: Wanted, memory_mib: int, vcpus: int
    ) -> VmWish:
        from outlast.wire.shapes import make
        from outlast.wire.templates import TemplateDeploy

        seed = wanted.seed
        told: dict[str, object] = {"disk": wanted.size_bytes}
        if seed is None:
            told["cloud_init"] = False
        else:
            told |= {
                "user": seed.user, "ssh_keys": list(seed.ssh_keys), "user_data": seed.user_data,
                "network_config": seed.network, "address": seed.address, "gateway": seed.gateway,
                "dns": list(seed.dns),
            }  # fmt: skip
        # what is not asked for is not said: an agent of an earlier version may not know it
        said = {key: value for key, value in told.items() if value or value is False}
        wish = make(
            TemplateDeploy, name=vm, memory=memory_mib << 20, vcpus=vcpus,
            networks=template.networks, **said,
        )  # fmt: skip
        return self._client.deploy(template.name, wish)


def _named(name: str, found: list[Named], noun: str) -> Named:
    """Raises NotFound."""
    one = next((one for one in found if one.name == name), None)
    if one is None:
        raise NotFound(f"there is no {noun} '{name}'", hint=f"outlast {noun} list")
    return one
