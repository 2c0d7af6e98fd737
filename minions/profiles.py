"""Fitted profiles from disk."""

from __future__ import annotations

import json
from pathlib import Path

from minions.errors import BadRequest, NotFound
from router import Calibration
from router.chat_profile import ChatProfile


def read_calibration(path: Path) -> Calibration:
    """A calibration from disk. Raises NotFound, and BadRequest for a file that is none, or that
    was made for other signals than today's."""
    if not path.is_file():
        raise NotFound(f"There is no profile {path}. Make one with `minions eval calibrate`.")
    try:
        return Calibration.from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise BadRequest(f"{path} can't be used as a profile: {error}") from None


def read_chat_profile(path: Path) -> ChatProfile:
    """A fitted chat router from disk. Raises NotFound, and BadRequest for a file that is none."""
    if not path.is_file():
        raise NotFound(f"There is no profile {path}. Make one with `minions eval routing --save`.")
    try:
        return ChatProfile.from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise BadRequest(f"{path} can't be used as a chat profile: {error}") from None
