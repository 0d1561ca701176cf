"""Which requests are rejected, and how values are converted."""

from datetime import UTC, datetime, timedelta

import pytest
from mesh.auth.v1 import auth_pb2
from mesh_auth import convert
from mesh_auth.domain import Allowances, EntitlementOverride, Entitlements, LoginName, Month, TokenPair
from mesh_common.errors import InvalidInput
from mesh_common.ids import new_id

PASSWORD = "seven green kettles whistle"


def key_of(email: str) -> str:
    return convert.new_account(auth_pb2.RegisterRequest(email=email, password=PASSWORD))[0].key


def usage_request() -> auth_pb2.RecordUsageRequest:
    request = auth_pb2.RecordUsageRequest(run_id=str(new_id()), model="m", input_tokens=1, output_tokens=2)
    request.ended_at.FromDatetime(datetime(2026, 11, 24, tzinfo=UTC))
    return request


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.com", "aDA@eXAMPLE.COM"),
        ("stra\u00dfe@example.com", "STRASSE@example.com"),
        ("jose\u0301@example.com", "jos\u00e9@example.com"),
        ("ada@example.com", "ada@\uff45\uff58ample.com"),
        ("ada@example.com", "\uff21d\uff41\uff20example.com"),
        ("ada@example.com", "ada@example\u3002com"),
        ("ada@example.com", "ada@example\uff61com"),
        ("ada@example.com", "ada@example\uff0ecom"),
        ("ada@example.com", "a\u034fda@exam\u034fple.com"),
        ("ada@example.com", "ada\ufe0f@example.com\ufe0f"),
        ("ada@example.com", "a\u200bd\u00ada@exa\u2060mple.com"),
        ("ada@example.com", "a\u3164da@example.com"),
        ("ada@example.com", "a\uffa0da@example.com"),
        ("\ufb01n@example.com", "FIN@example.com"),
        ("ada@stra\u00dfe.example.com", "ada@xn--strae-oqa.example.com"),
        ("ada@b\u00fccher.example.com", "ada@xn--bcher-kva.example.com"),
    ],
)
def test_spellings_of_one_address_have_one_key(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)


def test_different_addresses_have_different_keys() -> None:
    assert len({key_of(email) for email in ("ada@example.com", "ad.a@example.com", "ada+x@example.com")}) == 3


def test_address_is_kept_as_written() -> None:
    email, _ = convert.new_account(auth_pb2.RegisterRequest(email="Ada@Example.COM", password=PASSWORD))

    assert email.written == "Ada@Example.COM"


@pytest.mark.parametrize(
    "email", ["a", "a@b", "@example.com", "a@@example.com", "Ada <a@example.com>", " a@example.com", "a@example.com\n"]
)
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        key_of(email)

    assert caught.value.fields[0].field == "email"


def test_longest_address_is_taken_and_one_more_character_refused() -> None:
    domain = ".".join(["d" * 61] * 3 + ["com"])
    longest = f"{'a' * (254 - len(domain) - 1)}@{domain}"

    assert len(longest) == 254
    assert key_of(longest) == longest
    with pytest.raises(InvalidInput):
        key_of(f"a{longest}")


def test_login_with_what_is_no_address_names_no_account_instead_of_a_fault() -> None:
    name, password, address = convert.login_credentials(auth_pb2.LoginRequest(email="Nobody ", password="short"))

    assert (name, password, address) == (LoginName((), "nobody"), "short", None)


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("", "p", "email"),
        ("a\x00@example.com", "p", "email"),
        ("a" * 255, "p", "email"),
        ("a@example.com", "", "password"),
        ("a@example.com", "p\x00", "password"),
        ("a@example.com", "p" * 129, "password"),
        ("a@example.com", "p" * 600, "password"),
    ],
)
def test_bad_login_names_the_field(email: str, password: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        convert.login_credentials(auth_pb2.LoginRequest(email=email, password=password))

    assert caught.value.fields[0].field == field


def test_password_length_counts_composed_characters() -> None:
    decomposed = "e\u0301a" * 64

    _, password, _ = convert.login_credentials(auth_pb2.LoginRequest(email="a@example.com", password=decomposed))

    assert len(password) == 128


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "x"),
        ("run_id", ""),
        ("model", ""),
        ("model", "m\x00"),
        ("model", "m" * 201),
        ("input_tokens", 10**15 + 1),
        ("output_tokens", 2**64 - 1),
        ("cost_micro_usd", 2**63),
    ],
)
def test_bad_usage_names_the_field(field: str, value: str | int) -> None:
    request = usage_request()
    setattr(request, field, value)

    with pytest.raises(InvalidInput) as caught:
        convert.run_usage(request)

    assert caught.value.fields[0].field == field


@pytest.mark.parametrize("seconds", [-62_135_596_801, -1, 253_402_300_800, 2**62])
def test_impossible_time_is_refused(seconds: int) -> None:
    request = usage_request()
    request.ended_at.seconds = seconds

    with pytest.raises(InvalidInput) as caught:
        convert.run_usage(request)

    assert caught.value.fields[0].field == "ended_at"


def batch_request(entries: int = 3) -> auth_pb2.RecordUsageBatchRequest:
    return auth_pb2.RecordUsageBatchRequest(
        entries=[auth_pb2.UsageEntry(user_id=str(new_id()), usage=usage_request()) for _ in range(entries)]
    )


def test_batch_keeps_its_entries_in_order() -> None:
    request = batch_request()

    entries = convert.usage_entries(request)

    assert [str(entry.subject.user_id) for entry in entries] == [entry.user_id for entry in request.entries]
    assert [entry.usage for entry in entries] == [convert.run_usage(entry.usage) for entry in request.entries]


def test_an_entry_without_an_organisation_is_of_the_users_personal_one() -> None:
    """An agent of release 0.1.0 names none."""
    request = batch_request(2)
    request.entries[1].org_id = str(new_id())

    old, new = convert.usage_entries(request)

    assert str(old.subject.organisation_id) == request.entries[0].user_id
    assert str(new.subject.organisation_id) == request.entries[1].org_id


@pytest.mark.parametrize("entries", [0, 101])
def test_batch_of_too_few_or_too_many_is_refused(entries: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        convert.usage_entries(batch_request(entries))

    assert caught.value.fields[0].field == "entries"


def test_largest_batch_is_taken() -> None:
    assert len(convert.usage_entries(batch_request(100))) == 100


def test_bad_entry_of_a_batch_is_named_by_its_place() -> None:
    without_model, without_user, without_usage = batch_request(), batch_request(), batch_request()
    without_model.entries[1].usage.model = ""
    without_user.entries[2].user_id = "ada"
    without_usage.entries[0].ClearField("usage")

    faults = []
    for request in (without_model, without_user, without_usage):
        with pytest.raises(InvalidInput) as caught:
            convert.usage_entries(request)
        faults.append(caught.value.fields[0].field)

    assert faults == ["entries[1].usage.model", "entries[2].user_id", "entries[0].usage.run_id"]


def test_usage_without_a_time_is_refused() -> None:
    request = usage_request()
    request.ClearField("ended_at")

    with pytest.raises(InvalidInput):
        convert.run_usage(request)


def test_no_month_means_the_running_one_and_a_month_is_parsed() -> None:
    assert convert.month(auth_pb2.GetUsageRequest()) is None
    assert convert.month(auth_pb2.GetUsageRequest(month="2026-12")) == Month(2026, 12)


def test_december_ends_where_january_begins() -> None:
    assert Month(2026, 12).end == Month(2027, 1).start == datetime(2027, 1, 1, tzinfo=UTC)
    assert Month.of(datetime(2027, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)) == Month(2026, 12)


def test_bounds_that_are_absent_stay_absent() -> None:
    message = convert.entitlements_to_proto(Entitlements(Allowances(), used_tokens=0))

    assert not message.HasField("context_tokens")
    assert not message.HasField("monthly_tokens")


@pytest.mark.parametrize(
    ("names", "is_all", "allowed", "for_0_1_0"),
    [(None, True, [], []), ((), False, [], [""]), (("a", "b"), False, ["a", "b"], ["a", "b"])],
)
def test_names_are_all_or_a_list_for_agents_of_both_releases(
    names: tuple[str, ...] | None,
    is_all: bool,  # noqa: FBT001 - a parameter of pytest
    allowed: list[str],
    for_0_1_0: list[str],
) -> None:
    message = convert.entitlements_to_proto(Entitlements(Allowances(models=names, tools=names), used_tokens=0))

    for field, older in ((message.allowed_models, message.models), (message.allowed_tools, message.tools)):
        assert (field.all, list(field.names), list(older)) == (is_all, allowed, for_0_1_0)


@pytest.mark.parametrize(("stored", "applied"), [(None, ("a",)), ((), None), (("",), ()), (("b",), ("b",))])
def test_override_keeps_the_default_or_names_all_none_or_some(
    stored: tuple[str, ...] | None, applied: tuple[str, ...] | None
) -> None:
    defaults = Allowances(models=("a",), tools=("a",))

    found = EntitlementOverride(models=stored, tools=stored).applied_to(defaults)

    assert (found.models, found.tools) == (applied, applied)


def test_bound_of_zero_is_not_absent() -> None:
    message = convert.entitlements_to_proto(Entitlements(Allowances(monthly_tokens=0), used_tokens=0))

    assert message.HasField("monthly_tokens")


def test_lifetime_crosses_as_a_duration() -> None:
    message = convert.tokens_to_proto(TokenPair("a", timedelta(minutes=15), "r"))

    assert message.expires_in.ToSeconds() == 900


@pytest.mark.parametrize(
    "typed", ["Ada@Example.com", " ada@example.com ", "ada@example.com\n", "a\u034fda@example.com"]
)
def test_login_by_any_spelling_names_the_account(typed: str) -> None:
    name, _, _ = convert.login_credentials(auth_pb2.LoginRequest(email=typed, password="p"))

    assert name.canonical == "ada@example.com"
    assert name.canonical in name.keys


def test_account_that_an_older_release_stored_is_looked_up_by_its_old_key_too() -> None:
    """Release 0.1.0 kept compatibility forms and invisible characters before the @."""
    name, _, _ = convert.login_credentials(auth_pb2.LoginRequest(email="\uff41da\ufe0f@example.com", password="p"))

    assert name.keys == ("\uff41da\ufe0f@example.com", "ada@example.com")


@pytest.mark.parametrize("typed", ["nobody", "a@b@c", "ada@", "\u3164", "ada@exa mple.com", "@"])
def test_spellings_of_what_is_no_address_are_counted_as_one(typed: str) -> None:
    one, _, _ = convert.login_credentials(auth_pb2.LoginRequest(email=typed, password="p"))
    other, _, _ = convert.login_credentials(auth_pb2.LoginRequest(email=f"\u200b{typed.upper()}\ufe0f", password="p"))

    assert (one.keys, other.keys) == ((), ())
    assert one.canonical == other.canonical


@pytest.mark.parametrize(
    ("given", "address"),
    [("198.51.100.7", "198.51.100.7/32"), ("2001:db8:1:2::/64", "2001:db8:1:2::/64"), (None, None)],
)
def test_client_address_of_a_login_is_read(given: str | None, address: str | None) -> None:
    request = auth_pb2.LoginRequest(email="a@example.com", password="p", client_address=given)

    assert convert.login_credentials(request)[2] == address


@pytest.mark.parametrize("given", ["", "unknown", "2001:db8:1:2::7/64", "1.2.3.4:80", "x" * 1_000])
def test_client_address_that_is_none_is_refused(given: str) -> None:
    request = auth_pb2.LoginRequest(email="a@example.com", password="p", client_address=given)

    with pytest.raises(InvalidInput) as caught:
        convert.login_credentials(request)

    assert caught.value.fields[0].field == "client_address"
