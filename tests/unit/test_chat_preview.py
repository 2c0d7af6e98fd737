"""What a listener hears, joined, is always the answer that was paid for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minions.chat.preview import BEGUN_ANEW, Preview

texts = st.text("ab ", max_size=12)


@given(attempts=st.lists(st.lists(texts, max_size=4), max_size=4), final=texts)
def test_the_pieces_are_the_text_whatever_broke_off(attempts: list[list[str]], final: str) -> None:
    heard: list[str] = []
    preview = Preview(say=heard.append)
    for pieces in attempts:
        for piece in pieces:
            preview.hear(piece)
        preview.begin_again()
    told = preview.finish(final)
    assert "".join(heard) == told
    assert told == final or told.endswith(f"{BEGUN_ANEW}{final}")


def test_an_attempt_that_says_the_same_again_is_heard_once() -> None:
    heard: list[str] = []
    preview = Preview(say=heard.append)
    preview.hear("The fee ")
    preview.begin_again()
    for piece in ("The ", "fee ", "is 400."):
        preview.hear(piece)
    assert preview.finish("The fee is 400.") == "The fee is 400."
    assert heard == ["The fee ", "is 400."]


def test_a_silent_answer_is_said_at_the_end() -> None:
    heard: list[str] = []
    assert Preview(say=heard.append).finish("All.") == "All." and heard == ["All."]
