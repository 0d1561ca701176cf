"""Subjects of tests: users act in their personal organisations unless a test says otherwise."""

from mesh_common.ids import OrganisationId, UserId, new_id
from mesh_common.subject import Subject

personal = Subject.personal


def some_subject() -> Subject:
    return personal(UserId(new_id()))


def elsewhere(subject: Subject) -> Subject:
    """The same user in another organisation."""
    return Subject(OrganisationId(new_id()), subject.user_id)
