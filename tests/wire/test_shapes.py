import pytest

from outlast.errors import Conflict
from outlast.wire.shapes import BadField, PoolStatus, VmCreate, error_body, make, parse


def test_a_request_takes_sizes_as_people_write_them() -> None:
    wish = parse(VmCreate, '{"name":"web","memory":"8MiB","disks":[{"size":"2G"},{"size":4096}]}')
    assert (wish.memory, wish.disks[0].size, wish.disks[1].size) == (8 << 20, 2 << 30, 4096)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"name":"web","memory":"8"}', "memory"),
        ('{"name":"web","memory":8.5}', "memory"),
        ('{"name":"web","memory":true}', "memory"),
        ('{"name":"web","memory":"1G","vcpus":"2"}', "vcpus"),
        ('{"name":"web","memory":"1G","vcpus":0}', "vcpus"),
        ('{"name":"web","memory":"1G","memroy":"1G"}', "memroy"),
        ('{"name":"web"}', "memory"),
        ('{"name":"web","memory":"1G","disks":[{"size":"xG"}]}', "disks.0.size"),
        ('{"name":"web","memory":"1G","disks":[{"bus":"floppy"}]}', "disks.0.bus"),
        ("[]", ""),
        ("{", ""),
        ("", ""),
    ],
)
def test_a_bad_request_names_its_field(raw: str, field: str) -> None:
    with pytest.raises(BadField) as caught:
        parse(VmCreate, raw)
    assert caught.value.field == field
    assert error_body(caught.value).code == "invalid-input"


def test_a_size_keeps_its_hint() -> None:
    with pytest.raises(BadField) as caught:
        make(VmCreate, name="web", memory="2GB")
    assert "unknown unit" in caught.value.sentence
    assert caught.value.hint == "write 2GiB"


def test_answers_may_grow() -> None:
    raw = (
        '{"name":"p","uuid":"u","preset":"lab","answered_by":"a","sentence":"s",'
        '"hosts":[{"name":"a","slot":1,"state":"member","sentence":"s","temperature_k":300}],'
        '"news":1}'
    )
    status = parse(PoolStatus, raw)
    assert status.hosts[0].beat_age_ms is None


def test_an_error_without_field() -> None:
    assert error_body(Conflict("no", hint="do")).model_dump() == {
        "code": "conflict", "sentence": "no", "hint": "do", "field": "",
    }  # fmt: skip
