"""Whether a judge is trusted: by its agreement with people, measured before on labelled answers.

`minions eval grader --judge MODEL` measures it and keeps the result beside the rest of the state; a
run with that judge takes it along. A judge that was not measured, or that agrees too little, still
judges, but its verdicts decide nothing: no accuracy is made of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.judge import judge_prompt
from minions.errors import BadRequest

FOLDER = "judges"
MIN_KAPPA = 0.6
"""Lower end of the 95% interval: from here on agreement is called substantial (Landis and Koch
1977)."""
MAX_UNSCORED = 0.1
"""Share of answers without a readable verdict, above which no figure says anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a judge did on answers that people had labelled."""

    model: str
    prompt_version: str
    n: int
    """Labelled answers that it was shown."""
    n_unscored: int
    kappa: float | None
    """Cohen's, over the scored ones; None when there was none."""
    low: float | None
    high: float | None
    """The 95% interval, by bootstrap over questions."""

    @property
    def trusted(self) -> bool:
        return self.why_not is None

    @property
    def why_not(self) -> str | None:
        """Why its verdicts decide nothing; None when they do."""
        if self.kappa is None or self.low is None:
            return f"none of its {self.n} verdicts could be read"
        if self.n_unscored > MAX_UNSCORED * self.n:
            return f"{self.n_unscored} of its {self.n} verdicts could not be read"
        if self.low < MIN_KAPPA:
            return (
                f"its agreement with people is too low: kappa {self.kappa:.2f} "
                f"({self.low:.2f}–{self.high:.2f}) over {self.n - self.n_unscored} answers, and "
                f"the lower end must reach {MIN_KAPPA}"
            )
        return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def keep_standing(standing: Standing, state_dir: Path) -> Path:
    """Keep it for later runs; returns the file."""
    path = _path(standing.model, state_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(standing.to_json(), indent=1), encoding="utf-8")
    return path


def find_standing(model: str, state_dir: Path) -> Standing | None:
    """What was measured of this judge with the present prompt; None when nothing was. Raises
    BadRequest for a file that is no such record."""
    path = _path(model, state_dir)
    if not path.is_file():
        return None
    try:
        return Standing(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadRequest(
            f"{path} is no record of a judge ({error}). Measure it again: minions eval grader "
            f"--judge {model}."
        ) from None


def _path(model: str, state_dir: Path) -> Path:
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", model)
    return state_dir / FOLDER / f"{name}-{judge_prompt().version}.json"
