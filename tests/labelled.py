"""Labelled runs drawn from a known world, for the tests of calibration and replay."""

from __future__ import annotations

import math
import random
from decimal import Decimal

from eval.labelled import LabelledRun, RungOutcome
from router import CalibrationKey, Rung, Signals

KEY = CalibrationKey(
    model="nano", model_sha256="ab12", quantisation="MXFP4 MoE", prompt_version="0f3a"
)
CLOUD = "gpt-4.1"


def draw_runs(n: int, *, seed: int = 0, n_documents: int = 20) -> list[LabelledRun]:
    """About 55% of the local answers are right; the margin and the quote tell, the rest is noise.
    The cloud is right on 95% of those and on 70% of the others, at $0.20 a question."""
    draw = random.Random(seed)
    return [_draw_run(draw, f"q{i}", f"document {i % n_documents}") for i in range(n)]


def _draw_run(draw: random.Random, item_id: str, group: str) -> LabelledRun:
    ease = draw.gauss(0, 1)
    right = draw.random() < 1 / (1 + math.exp(-0.3 - 2 * ease))
    verified = draw.random() < (0.85 if right else 0.4)
    cloud_right = draw.random() < (0.95 if right else 0.7)
    return LabelledRun(
        item_id=item_id,
        group=group,
        key=KEY,
        cloud_model=CLOUD,
        signals=Signals(
            answered=True,
            verified=verified,
            answer_in_quote=verified and draw.random() < 0.8,
            agreement=draw.random(),
            margin=4 + 3 * ease + draw.gauss(0, 1) if draw.random() < 0.9 else None,
            coverage=1.0,
            n_answered=draw.randint(1, 5),
            n_abstained=draw.randint(5, 40),
            n_failed=0,
            hedged=draw.random() < 0.1,
        ),
        outcomes={
            Rung.LOCAL: RungOutcome(correct=right, verified=verified, usd=Decimal(0)),
            Rung.DOCUMENT: RungOutcome(
                correct=cloud_right,
                verified=cloud_right or draw.random() < 0.4,
                usd=Decimal("0.20"),
                prompt_tokens=80_000,
            ),
        },
    )
