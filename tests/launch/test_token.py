"""The token of a sweep's Ray."""

import pytest

from srcgcnn.launch.token import new_token, read_token, write_token


def test_tokens_are_private_and_new_each_time(tmp_path):
    first, second = (write_token(tmp_path / "token", new_token()).read_text() for _ in range(2))
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert first != second == read_token(tmp_path / "token")


@pytest.mark.parametrize("damage", [None, b"", b"abc", b"\xff" * 64, b"g" * 64, b"0" * 63])
def test_a_damaged_token_is_none(tmp_path, damage):
    path = write_token(tmp_path / "token", new_token())
    path.unlink() if damage is None else path.write_bytes(damage)
    assert read_token(path) == ""
