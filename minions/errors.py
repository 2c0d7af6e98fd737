"""Every error the product raises on purpose: one tree, each with an HTTP status and a fix.

    MinionsError                     500
    |-- BadRequest                   400  the caller can mend it
    |   |-- DocumentError            422  a file that can't be read as what it is
    |   |   |-- EmptyDocument
    |   |   |-- EncryptedDocument
    |   |   |-- CorruptDocument
    |   |   |-- UnsupportedDocument      type not read here, or wrongly named
    |   |   |-- NoTextInDocument         scanned pages without a text layer
    |   |   `-- DocumentTimeout          reading took too long or too much memory
    |   |-- BeyondAbilities          422  needs more than reading text, and nobody may do it
    |   |-- DocumentTooLarge         413
    |   |-- NotFound                 404
    |   |-- KeyReused                422  one idempotency key, two different requests
    |   `-- Contradiction            422  wishes that exclude one another
    |-- Unauthorized                 401  no key, or one that opens nothing
    |-- Forbidden                    403  the key may not do that
    |-- TooMany                      429  the queue is full, or a key asks too often
    |-- CeilingExceeded              403  would pass the privacy ceiling (Law 5)
    |-- BudgetExceeded               402  would pass max_cost_usd
    |-- PriceUnknown                 402  money is asked for and no price is known (Law 3)
    |-- WorkerFailed                 503  the local engine can't serve (see workers.errors)
    |-- StoreUnavailable             503  the database can't be opened, read or written
    |-- Stopping                     503  the service is about to end
    |-- Cancelled                    499
    `-- CloudError                   502
        |-- CloudRefused             502  4xx: key, model, length; a retry will not help
        |-- CloudUnavailable         503  retries are used up
        `-- CloudProtocolError       502  answers, but not what the API promises

The message says what was wrong, where, and what to do.
"""

from __future__ import annotations


class MinionsError(Exception):
    """Root of the tree."""

    status = 500
    code = "internal_error"


class BadRequest(MinionsError):
    status = 400
    code = "bad_request"


class DocumentError(BadRequest):
    status = 422
    code = "document_unreadable"


class EmptyDocument(DocumentError):
    code = "document_empty"


class EncryptedDocument(DocumentError):
    code = "document_encrypted"


class CorruptDocument(DocumentError):
    code = "document_corrupt"


class UnsupportedDocument(DocumentError):
    code = "document_unsupported"


class NoTextInDocument(DocumentError):
    code = "document_without_text"


class DocumentTimeout(DocumentError):
    code = "document_timeout"


class BeyondAbilities(BadRequest):
    status = 422
    code = "beyond_abilities"


class DocumentTooLarge(BadRequest):
    status = 413
    code = "document_too_large"


class NotFound(BadRequest):
    status = 404
    code = "not_found"


class KeyReused(BadRequest):
    status = 422
    code = "idempotency_key_reused"


class Contradiction(BadRequest):
    status = 422
    code = "contradiction"


class Unauthorized(MinionsError):
    status = 401
    code = "invalid_api_key"


class Forbidden(MinionsError):
    status = 403
    code = "missing_scope"


class TooMany(MinionsError):
    """Come back in `retry_after_s` seconds."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Stopping(MinionsError):
    status = 503
    code = "stopping"


class CeilingExceeded(MinionsError):
    status = 403
    code = "privacy_ceiling"


class BudgetExceeded(MinionsError):
    status = 402
    code = "budget_exceeded"


class PriceUnknown(MinionsError):
    status = 402
    code = "price_unknown"


class WorkerFailed(MinionsError):
    status = 503
    code = "worker_failed"


class StoreUnavailable(MinionsError):
    """Nothing of the operation was kept."""

    status = 503
    code = "store_unavailable"


class Cancelled(MinionsError):
    status = 499
    code = "cancelled"


class CloudError(MinionsError):
    status = 502
    code = "cloud_error"


class CloudRefused(CloudError):
    code = "cloud_refused"


class CloudUnavailable(CloudError):
    status = 503
    code = "cloud_unavailable"


class CloudProtocolError(CloudError):
    code = "cloud_protocol"
