"""Verifies users' access tokens. No other part of the mesh does."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from mesh_common.errors import Unauthenticated
from mesh_common.ids import OrganisationId, UserId
from mesh_common.jwt import Claims, JWTVerifier, invalid_token
from mesh_common.subject import Subject, names

from mesh_gateway.identity.revocations import Revocations
from mesh_gateway.identity.signing_keys import SigningKeys

MISSING_TOKEN: Final = "TOKEN_REQUIRED"  # noqa: S105 - a reason, no secret


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom one request is for, and the session that its token belongs to."""

    subject: Subject
    session_id: str
    expires_at: datetime

    @property
    def user_id(self) -> UserId:
        """What limits count by: they are the user's, whatever the organisation."""
        return self.subject.user_id


class AccessTokens:
    def __init__(self, verifier: JWTVerifier, keys: SigningKeys, revocations: Revocations) -> None:
        self._verifier = verifier
        self._keys = keys
        self._revocations = revocations

    def has_verified(self, token: str) -> bool:
        """Whether the token was valid when this replica last saw it, so that checking it again costs little."""
        return self._verifier.has_verified(token)

    async def authenticate(self, token: str | None) -> Principal:
        """Raises Unauthenticated; Unavailable while no key is known."""
        if not token:
            raise Unauthenticated("An access token is required. Log in.", reason=MISSING_TOKEN)
        self._keys.document()
        if not self._verifier.knows_key_of(token):
            await self._keys.ask_for_newer()
        principal = self._principal(token)
        if self._revocations.is_revoked(principal.session_id):
            raise invalid_token()
        return principal

    def _principal(self, token: str) -> Principal:
        # Signed claims can still be malformed: an `exp` that is not a number, or later than any date.
        try:
            claims = self._verifier.verify(token)
            return Principal(
                subject=_subject(claims),
                session_id=str(UUID(claims["sid"])),
                expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
            raise invalid_token() from error

    def revoke(self, principal: Principal) -> None:
        """Rejects the session on this replica at once; other replicas learn of it from auth."""
        self._revocations.revoke(principal.session_id, principal.expires_at)


def _subject(claims: Claims) -> Subject:
    """A token of release 0.1.0 has no `org`: it speaks for the personal organisation. Raises what odd claims raise."""
    user_id = UserId(UUID(claims["sub"]))
    organisation_id = OrganisationId(UUID(claims["org"])) if "org" in claims else OrganisationId(user_id)
    scopes = frozenset(claims.get("scope", "").split())
    return Subject(organisation_id, user_id, names(claims.get("roles", [])), scopes)
