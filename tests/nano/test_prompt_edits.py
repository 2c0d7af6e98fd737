"""Another wording of the instructions changes nothing that nano says: no training anew for it."""

from __future__ import annotations

import dataclasses

import pytest

from tests.nano.test_shipped import CONTRACT, GGUF
from workers.jobs import Job, JobResult
from workers.llama.engine import LlamaCppEngine
from workers.llama.sizing import LlamaSettings
from workers.prompt import WorkerPrompt, worker_prompt

SETTINGS = LlamaSettings(n_ctx=4096, n_seq_max=8, live_chunks=3, n_threads=1)
TASKS = ("Which state's law governs this agreement?", "Is there a source code escrow?")


def said(prompt: WorkerPrompt) -> list[JobResult]:
    """What the engine answers under this prompt, in the order of `TASKS`."""
    engine = LlamaCppEngine.load(GGUF, settings=SETTINGS, prompt=prompt)
    try:
        for number, task in enumerate(TASKS):
            engine.submit(Job(job_id=str(number), chunk_id="c", chunk_text=CONTRACT, task=task))
        results: list[JobResult] = []
        while len(results) < len(TASKS):
            results += engine.step()
    finally:
        engine.close()
    return sorted(results, key=lambda result: result.job_id)


@pytest.mark.parametrize("instructions", ["", "Lies den Auszug. Antworte knapp.\n" * 20])
def test_other_instructions_give_the_same_answers(instructions: str) -> None:
    ours = worker_prompt()
    edited = dataclasses.replace(ours, instructions=instructions, version="edited")
    for before, after in zip(said(ours), said(edited), strict=True):
        assert (after.status, after.answer, after.citation) == (
            before.status,
            before.answer,
            before.citation,
        )
        assert after.margin == pytest.approx(before.margin, abs=0.05)


@pytest.mark.parametrize("between", ["\n\n", "\n\nTask: ", "\n\n---\nQuestion: "])
def test_another_frame_of_the_question_still_finds_the_answer(between: str) -> None:
    governed, escrow = said(dataclasses.replace(worker_prompt(), between=between))
    assert governed.answer is not None and "Texas" in governed.answer
    assert escrow.answer is None
