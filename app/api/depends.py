"""What routes depend on: the services behind the API, and the key that a request was made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from app.api.limiting import Limiter
from app.api.traffic import Traffic
from app.core.database import Database
from app.core.dispatch import Doorbell
from app.core.keys import Scope, allows, find_key
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.submission import Submissions
from app.core.summaries import Summaries
from app.core.tables import Key
from app.core.watching import Watch
from detectors.errors import Forbidden, Unauthenticated

BEARER = HTTPBearer(
    scheme_name="key",
    bearerFormat="ts_<prefix>_<secret>",
    description="An API key. `scan:write` submits and cancels scans, `report:read` reads, `admin` may do everything.",
    auto_error=False,
)
LONGEST_KEY = 200


@dataclass(frozen=True)
class Services:
    """What the API is made of besides routes; `app.state.services`."""

    settings: Settings
    database: Database
    blobs: Blobs
    doorbell: Doorbell
    limiter: Limiter
    submissions: Submissions
    summaries: Summaries
    watch: Watch
    traffic: Traffic


def services(request: Request) -> Services:
    """The services of the API that the request came to."""
    found: Services = request.app.state.services
    return found


ServicesOf = Annotated[Services, Depends(services)]


def caller(
    request: Request,
    needed: SecurityScopes,
    known: ServicesOf,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> Key:
    """The key that a request was made with.

    Raises:
        Unauthenticated: if there is none, or it is unknown, expired or revoked.
        Forbidden: if it has not the scopes that the route needs.
        TooManyRequests: if the key, or without one the address, has asked too often.
    """
    key = _find(known, credentials.credentials if credentials else "")
    if key is None:
        known.limiter.failure(request.client.host if request.client else "")
        raise Unauthenticated("no valid API key was given; send one as `Authorization: Bearer ts_…`")
    known.limiter.request(key.id)
    lacking = [scope for scope in needed.scopes if not allows(key, scope)]
    if lacking:
        raise Forbidden(
            f"the key `{key.prefix}` has the scopes {', '.join(key.scopes) or 'none'}, wanted {', '.join(lacking)}; "
            "use a key that has it, or let an administrator make one"
        )
    return key


def _find(known: Services, presented: str) -> Key | None:
    if not 0 < len(presented) <= LONGEST_KEY:
        return None
    with known.database.reading() as session:
        return find_key(session, presented)


def require(scope: Scope) -> Any:
    """What gives a route the key of its caller, and nobody the route whose key has not the scope."""
    return Security(caller, scopes=[scope])


Reader = Annotated[Key, require("report:read")]
Writer = Annotated[Key, require("scan:write")]
Admin = Annotated[Key, require("admin")]
