"""Converts between proto and domain, and checks limits. Errors name the invalid field."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.auth.v1 import auth_pb2
from mesh_common.cursor import decode_time_cursor, encode_time_cursor
from mesh_common.errors import InvalidInput
from mesh_common.ids import OrganisationId, RunId, UserId, parse_id
from mesh_common.subject import Subject

from mesh_auth.domain import (
    NO_NAMES,
    EmailAddress,
    Entitlements,
    LoginName,
    ModelUsage,
    Month,
    RevocationPage,
    RunUsage,
    SessionId,
    TokenPair,
    UsageEntry,
    User,
    UserPage,
)
from mesh_auth.logins.email import login_name, parse_email
from mesh_auth.passwords import rules as passwords

# RFC 5321, 4.5.3.1.3, without the angle brackets.
_MAX_EMAIL_CHARS: Final = 254
# A decomposed letter, as people may type it, has at most four code points.
_MAX_RAW_PASSWORD_CHARS: Final = 4 * passwords.MAX_CHARS
# Our tokens have 43 characters. Longer ones are rejected as unknown tokens, up to a length at which hashing is a waste.
_MAX_REFRESH_TOKEN_CHARS: Final = 8_192
_MAX_CURSOR_CHARS: Final = 50_000
_MAX_MODEL_CHARS: Final = 200
# Far more than any run uses, and the sum of a month still fits into PostgreSQL's bigint.
_MAX_COUNT: Final = 10**15
_MAX_USAGE_ENTRIES: Final = 100
_MAX_USERS_A_PAGE: Final = 100
_MONTH: Final = re.compile(r"(?P<year>[0-9]{4})-(?P<month>0[1-9]|1[0-2])")
# Timestamps outside this range have a wrong unit. datetime ends with the year 9999.
_YEARS: Final = range(1970, 9999)


def new_account(request: auth_pb2.RegisterRequest) -> tuple[EmailAddress, str]:
    return new_credentials(request.email, request.password)


def new_credentials(email: str, password: str) -> tuple[EmailAddress, str]:
    """Raises InvalidInput naming `email` or `password`. Checks only the address's syntax, without network access."""
    address = _email(email)
    normalised = _password(password)
    if fault := passwords.fault_of(normalised, email=email):
        raise InvalidInput.of_field("password", fault)
    return address, normalised


def new_password(text: str) -> str:
    """The form that is hashed. `Accounts` checks the rules, which depend on the account's address."""
    return _password(text)


def email_keys(text: str) -> tuple[str, ...]:
    """The keys that an account with this address can have; none for a text that is no address."""
    return login_name(text).keys


def login_credentials(request: auth_pb2.LoginRequest) -> tuple[LoginName, str, str | None]:
    """The account's name, the password and the client's address, which a gateway of release 0.1.0 does not send.

    The rules for new passwords do not apply, so that an account created before them can still log in.
    """
    _bounded_text("email", request.email, _MAX_EMAIL_CHARS)
    password = _password(request.password)
    if len(password) > passwords.MAX_CHARS:
        raise InvalidInput.of_field("password", f"must have at most {passwords.MAX_CHARS} characters")
    return login_name(request.email), password, _client_address(request)


def refresh_token(request: auth_pb2.RefreshRequest) -> str:
    return _bounded_text("refresh_token", request.refresh_token, _MAX_REFRESH_TOKEN_CHARS)


def session_id(request: auth_pb2.LogoutRequest) -> SessionId:
    return SessionId(parse_id(request.session_id, "session_id"))


def user_id(
    request: auth_pb2.ReadUserRequest
    | auth_pb2.SetPasswordRequest
    | auth_pb2.DisableUserRequest
    | auth_pb2.EnableUserRequest,
) -> UserId:
    return UserId(parse_id(request.user_id, "user_id"))


def user_position(request: auth_pb2.ListUsersRequest) -> tuple[UserId | None, int]:
    """After which user the page begins, and its length."""
    if not 1 <= request.limit <= _MAX_USERS_A_PAGE:
        raise InvalidInput.of_field("limit", f"must be 1 to {_MAX_USERS_A_PAGE}")
    after = UserId(decode_time_cursor(request.cursor)[1]) if request.HasField("cursor") else None
    return after, request.limit


def cursor(request: auth_pb2.ListRevocationsRequest) -> str | None:
    return _bounded_text("cursor", request.cursor, _MAX_CURSOR_CHARS) if request.HasField("cursor") else None


def run_usage(request: auth_pb2.RecordUsageRequest, *, within: str = "") -> RunUsage:
    """`within` is prepended to the name of an invalid field."""
    return RunUsage(
        run_id=RunId(parse_id(request.run_id, f"{within}run_id")),
        model=_bounded_text(f"{within}model", request.model, _MAX_MODEL_CHARS),
        input_tokens=_count(f"{within}input_tokens", request.input_tokens),
        output_tokens=_count(f"{within}output_tokens", request.output_tokens),
        cost_micro_usd=_count(f"{within}cost_micro_usd", request.cost_micro_usd),
        ended_at=_moment(f"{within}ended_at", request.ended_at if request.HasField("ended_at") else None),
    )


def usage_entries(request: auth_pb2.RecordUsageBatchRequest) -> list[UsageEntry]:
    if not 1 <= len(request.entries) <= _MAX_USAGE_ENTRIES:
        raise InvalidInput.of_field("entries", f"must be 1 to {_MAX_USAGE_ENTRIES}")
    return [_usage_entry(f"entries[{index}]", entry) for index, entry in enumerate(request.entries)]


def month(request: auth_pb2.GetUsageRequest) -> Month | None:
    if not request.HasField("month"):
        return None
    match = _MONTH.fullmatch(request.month)
    if match is None or int(match["year"]) not in _YEARS:
        raise InvalidInput.of_field("month", "must be YYYY-MM")
    return Month(int(match["year"]), int(match["month"]))


def user_to_proto(user: User) -> auth_pb2.User:
    return auth_pb2.User(
        id=str(user.id),
        email=user.email,
        created_at=_timestamp(user.created_at),
        is_admin=user.is_admin,
        disabled_at=_timestamp(user.disabled_at) if user.disabled_at else None,
    )


def users_to_proto(page: UserPage) -> auth_pb2.ListUsersResponse:
    has_more = page.next_after is not None
    return auth_pb2.ListUsersResponse(
        users=[user_to_proto(user) for user in page.users],
        next_cursor=encode_time_cursor(page.users[-1].created_at, page.users[-1].id) if has_more else None,
    )


def tokens_to_proto(tokens: TokenPair) -> auth_pb2.TokenPair:
    pair = auth_pb2.TokenPair(access_token=tokens.access_token, refresh_token=tokens.refresh_token)
    pair.expires_in.FromTimedelta(tokens.expires_in)
    return pair


def revocations_to_proto(page: RevocationPage) -> auth_pb2.ListRevocationsResponse:
    return auth_pb2.ListRevocationsResponse(
        revocations=[
            auth_pb2.Revocation(session_id=str(entry.session_id), expires_at=_timestamp(entry.expires_at))
            for entry in page.revocations
        ],
        next_cursor=page.next_cursor,
        has_more=page.has_more,
    )


def entitlements_to_proto(entitlements: Entitlements) -> auth_pb2.Entitlements:
    allowances = entitlements.allowances
    return auth_pb2.Entitlements(
        models=_names_for_0_1_0(allowances.models),
        tools=_names_for_0_1_0(allowances.tools),
        allowed_models=_allowed_names(allowances.models),
        allowed_tools=_allowed_names(allowances.tools),
        context_tokens=allowances.context_tokens,
        monthly_tokens=allowances.monthly_tokens,
        used_tokens=entitlements.used_tokens,
    )


def _allowed_names(names: tuple[str, ...] | None) -> auth_pb2.AllowedNames:
    return auth_pb2.AllowedNames(all=True) if names is None else auth_pb2.AllowedNames(names=names)


def _names_for_0_1_0(names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Agents of release 0.1.0 take no names for all names, so none is a name that nothing has."""
    return () if names is None else names or NO_NAMES


def unknown_users_to_proto(users: Iterable[UserId]) -> auth_pb2.RecordUsageBatchResponse:
    return auth_pb2.RecordUsageBatchResponse(unknown_user_ids=[str(user_id) for user_id in users])


def usage_to_proto(of_month: Month, models: Sequence[ModelUsage]) -> auth_pb2.GetUsageResponse:
    return auth_pb2.GetUsageResponse(
        month=str(of_month),
        models=[
            auth_pb2.ModelUsage(
                model=entry.model,
                runs=entry.runs,
                input_tokens=entry.input_tokens,
                output_tokens=entry.output_tokens,
                cost_micro_usd=entry.cost_micro_usd,
            )
            for entry in models
        ],
    )


def _usage_entry(field: str, entry: auth_pb2.UsageEntry) -> UsageEntry:
    user_id = UserId(parse_id(entry.user_id, f"{field}.user_id"))
    # An agent of release 0.1.0 names no organisation; it means the user's personal one.
    org_id = parse_id(entry.org_id, f"{field}.org_id") if entry.HasField("org_id") else user_id
    return UsageEntry(Subject(OrganisationId(org_id), user_id), run_usage(entry.usage, within=f"{field}.usage."))


def _email(text: str) -> EmailAddress:
    _bounded_text("email", text, _MAX_EMAIL_CHARS)
    try:
        return parse_email(text)
    except ValueError as error:
        raise InvalidInput.of_field("email", str(error)) from error


def _client_address(request: auth_pb2.LoginRequest) -> str | None:
    if not request.HasField("client_address"):
        return None
    try:
        return str(ip_network(request.client_address))
    except ValueError:
        raise InvalidInput.of_field("client_address", "is not an IP address or network") from None


def _password(text: str) -> str:
    return passwords.normalised(_bounded_text("password", text, _MAX_RAW_PASSWORD_CHARS))


def _bounded_text(field: str, text: str, max_chars: int) -> str:
    if not text:
        raise InvalidInput.of_field(field, "must not be empty")
    if len(text) > max_chars:
        raise InvalidInput.of_field(field, f"must have at most {max_chars} characters")
    if "\x00" in text:
        raise InvalidInput.of_field(field, "must not hold the character NUL")
    return text


def _count(field: str, number: int) -> int:
    if number > _MAX_COUNT:
        raise InvalidInput.of_field(field, f"must be at most {_MAX_COUNT}")
    return number


def _moment(field: str, timestamp: Timestamp | None) -> datetime:
    if timestamp is None:
        raise InvalidInput.of_field(field, "is required")
    try:
        moment = timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput.of_field(field, "is not a point in time") from None
    if moment.year not in _YEARS:
        raise InvalidInput.of_field(field, "is not a point in time")
    return moment


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
