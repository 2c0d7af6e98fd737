"""`minions eval ...`: measure accuracy and dollars."""

from __future__ import annotations

from typing import ClassVar

from minions.cli.lazy import Entry, LazyGroup, lazy_app


class _Measures(LazyGroup):
    table: ClassVar = {
        "run": Entry(
            place="minions.cli.eval_run:run",
            summary="Answer a dataset's questions with several strategies side by side.",
        ),
        "report": Entry(
            place="minions.cli.eval_report:report",
            summary="What a run scored and cost: a table here, and report.html, which opens alone.",
        ),
        "calibrate": Entry(
            place="minions.cli.eval_calibrate:calibrate",
            summary="Fit the router's profile on labelled runs. It holds for this worker and "
            "prompt only.",
        ),
        "replay": Entry(
            place="minions.cli.eval_calibrate:replay",
            summary="Score recorded runs under other thresholds, prices and risks. No model is "
            "called.",
        ),
        "experiment": Entry(
            place="minions.cli.eval_experiment:experiment",
            summary="Generated documents and 30 contracts, all strategies side by side; in an "
            "hour on two cores.",
        ),
        "recorded": Entry(
            place="minions.cli.eval_recorded:recorded",
            summary="Our evidence packing beside MinionS as recorded, and what deferring would "
            "bring weak systems: real models' outputs, no model is called.",
        ),
        "evidence": Entry(
            place="minions.cli.eval_evidence:evidence",
            summary="Share of questions whose gold evidence is kept within a token budget, by a "
            "relevance score that never saw the scored companies.",
        ),
        "grader": Entry(
            place="minions.cli.eval_grader:grader",
            summary="Agreement of the rule grader, or of an LLM judge, with people's labels. "
            "Nothing is fitted.",
        ),
        "nano": Entry(
            place="minions.cli.eval_nano:nano",
            summary="Read generated documents, and real contracts where their folder is given; "
            "print the figures.",
        ),
        "retrieval": Entry(
            place="minions.cli.eval_retrieval:retrieval",
            summary="Rank each question's document without a model, beside BM25. Nothing is "
            "fitted.",
        ),
        "routing": Entry(
            place="minions.cli.eval_routing:routing",
            summary="Learn when a plain question is worth the strong model: the part of the gap "
            "that is recovered over all shares of strong calls (APGR), and the calls and dollars "
            "that recover 50% and 80%.",
        ),
    }


evaluation = lazy_app(_Measures, "Measure accuracy and dollars.")
