"""How often a key may ask: so many requests in any minute."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from minions.errors import TooMany
from minions.store.service import ApiKey


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """Counts requests in this process. Several processes each allow the whole rate."""

    limiter: MovingWindowRateLimiter = field(
        default_factory=lambda: MovingWindowRateLimiter(MemoryStorage())
    )

    async def count(self, key: ApiKey) -> None:
        """Count one request. Raises TooMany when the key has no room for it."""
        if key.requests_per_minute is None:
            return
        rate = RateLimitItemPerMinute(key.requests_per_minute)
        if await self.limiter.hit(rate, key.key_id):
            return
        window = await self.limiter.get_window_stats(rate, key.key_id)
        wait_s = max(1.0, window.reset_time - time.time())
        raise TooMany(
            f"This key may send {key.requests_per_minute} requests a minute. "
            f"Ask again in {wait_s:.0f} s.",
            retry_after_s=wait_s,
        )
