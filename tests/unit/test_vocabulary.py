"""The vocabulary that ships, and the tokenizer over it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import ModelCorrupt
from workers.vocabulary import TiktokenTokenizer, o200k_base, parse_ranks


def test_known_tokens_of_o200k() -> None:
    encoding = o200k_base()
    assert encoding.n_vocab == 200_019
    assert encoding.encode_ordinary("Hello world") == [13225, 2375]


def test_control_tokens_in_text_are_text() -> None:
    assert max(TiktokenTokenizer().encode("<|endoftext|><|start|>")) < 199_998


def test_a_changed_file_is_refused() -> None:
    with pytest.raises(ModelCorrupt, match="reinstall"):
        parse_ranks(b"IQ== 0\n", expected_sha256="0" * 64)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=300))
def test_every_text_comes_back(text: str) -> None:
    assert o200k_base().decode(TiktokenTokenizer().encode(text)) == text
