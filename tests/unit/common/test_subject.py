"""The subject and its text form, which other releases and other services read."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_common.ids import OrganisationId, UserId, new_id
from mesh_common.subject import MAX_NAMES, Subject, parse_subject
from support.ids import SOME_ID
from support.subjects import personal, some_subject

NAMES = st.frozensets(st.text("az09_.:-", max_size=63).map(lambda rest: f"a{rest}"), max_size=MAX_NAMES)
IDS = {"org": SOME_ID, "user": "019ad3c0-5f00-7000-8000-00000000b22e"}


@given(st.uuids(), st.uuids(), NAMES, NAMES)
def test_every_subject_comes_back_from_its_text(
    organisation: OrganisationId, user: UserId, roles: frozenset[str], scopes: frozenset[str]
) -> None:
    subject = Subject(organisation, user, roles, scopes)

    text = subject.as_text()

    assert parse_subject(text) == subject
    assert text.isascii()
    assert len(text) <= 4_096


def test_equal_subjects_have_one_text() -> None:
    """HPACK then sends the header in a byte or two, because it knows the value."""
    names = [f"scope-{number}" for number in range(MAX_NAMES)]
    ada = some_subject()

    texts = {
        Subject(ada.organisation_id, ada.user_id, scopes=frozenset(order)).as_text()
        for order in (names, reversed(names))
    }

    assert len(texts) == 1


def test_fields_of_a_later_release_are_ignored() -> None:
    assert parse_subject(orjson.dumps({**IDS, "region": "eu"}).decode()) == parse_subject(orjson.dumps(IDS).decode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "{}",
        orjson.dumps({"user": IDS["user"]}).decode(),
        orjson.dumps({"org": IDS["org"]}).decode(),
        orjson.dumps({**IDS, "user": 7}).decode(),
        orjson.dumps({**IDS, "user": "root"}).decode(),
        orjson.dumps({**IDS, "scopes": "admin"}).decode(),
        orjson.dumps({**IDS, "scopes": [1]}).decode(),
        orjson.dumps({**IDS, "scopes": ["ADMIN"]}).decode(),
        orjson.dumps({**IDS, "roles": [f"role-{number}" for number in range(MAX_NAMES + 1)]}).decode(),
        orjson.dumps({**IDS, "roles": ["a" * 65]}).decode(),
        orjson.dumps({**IDS, "more": "x" * 4_096}).decode(),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the broken rule does not matter
        parse_subject(text)


def test_a_stored_row_names_no_roles_and_scopes() -> None:
    ada = some_subject()
    granted = Subject(ada.organisation_id, ada.user_id, frozenset({"owner"}), frozenset({"admin"}))

    assert granted.without_grants() == ada
    assert ada.without_grants() is ada


def test_a_personal_organisation_has_the_id_of_its_user() -> None:
    user_id = UserId(new_id())

    assert personal(user_id) == Subject(OrganisationId(user_id), user_id)
