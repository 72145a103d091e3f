import pytest

from outlast.errors import InvalidInput
from outlast.wire.sizes import is_size, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [("8MiB", 8 << 20), ("2G", 2 << 30), ("512 M", 512 << 20), ("1T", 1 << 40), ("4096B", 4096)],
)
def test_sizes_people_write(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("512", "no unit"),
        ("2GB", "unknown unit 'GB'"),
        ("1.5G", "not a size"),
        ("-1G", "not a size"),
        ("0M", "out of range"),
        ("9999999T", "out of range"),
        ("", "not a size"),
        ("G", "not a size"),
        ("2g", "unknown unit"),
        ("٣G", "not a size"),
        ("2G\n", "not a size"),
    ],
)
def test_what_is_no_size_is_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        parse_size(text)
    assert caught.value.hint


def test_the_hint_gives_the_right_unit() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_size("2GB")
    assert caught.value.hint == "write 2GiB"


def test_size_and_path_are_told_apart() -> None:
    assert is_size("20G") and is_size("20GB")
    assert not is_size("images/web.raw") and not is_size("/a/20G") and not is_size("20")


@pytest.mark.parametrize("size", [1, 1023, 8 << 20, 3 << 39, 1536 << 20])
def test_text_of_a_size_is_exact(size: int) -> None:
    assert parse_size(size_text(size)) == size
