"""Row-level security by organisation and user, for migrations and for the tests that check every table.

The app role sees a row if both its organisation and its user are those of the transaction. Two rules keep release
0.1.0 working on the same database. The release that makes `org_id` NOT NULL drops both:

- a row without `org_id` belongs to the personal organisation of its user, whose id is the user's;
- a transaction without `mesh.org_id` acts in the personal organisation of `mesh.user_id`.

So a transaction with a user alone sees their personal rows. With an organisation alone, or with neither, it sees none.

Tables that identify a person (accounts, sessions) are the exception: their policies compare the user only, because the
same account acts in several organisations.

Released migrations import this module: never change the SQL that it generates for them.
"""

from collections.abc import Sequence
from typing import Final

from mesh_common.database.online import OnlineStep

USER: Final = "nullif(current_setting('mesh.user_id', true), '')"
"""SQL: the user of the transaction, as text; NULL if there is none."""
ORGANISATION: Final = f"coalesce(nullif(current_setting('mesh.org_id', true), ''), {USER})"
"""SQL: the organisation of the transaction, as text."""
# A CASE, for which PostgreSQL assumes a selectivity of 0.5. For a comparison with an expression it would assume 1 row
# in 200, in addition to the selectivity of the user. With that, a join of a thread's runs and messages read the whole
# thread. The subquery is computed once per statement: a search among 1,000 memories took 0.93 ms without it and 0.68 ms
# with it; a statement for one row takes 5 µs more.
_OF_ORGANISATION: Final = (
    f"CASE WHEN coalesce(org_id, user_id) = (SELECT ({ORGANISATION})::uuid) THEN true ELSE false END"
)
OWN_ROWS: Final = f"user_id = ({USER})::uuid AND {_OF_ORGANISATION}"
"""SQL: the condition for a row that the app role may read or write."""


def add_organisation(schema: str, tables: Sequence[str]) -> tuple[OnlineStep, ...]:
    """Adds `org_id` to tables with `user_id`, and policies that check both.

    Reads and rewrites no row: a million rows take as long as none. `org_id` of a new row is the transaction's
    organisation unless the statement names another, and NULL for the worker role, which has no organisation.
    """
    return tuple(_add_organisation(schema, table) for table in tables)


def add_organisation_of_person(schema: str, tables: Sequence[str]) -> tuple[OnlineStep, ...]:
    """As `add_organisation`, but keeps the policies, which compare the user only."""
    return tuple(_add_column(schema, table) for table in tables)


def secure_sql(schema: str, table: str) -> tuple[str, ...]:
    """Statements that enable row-level security on a new table with `org_id` and `user_id`."""
    name = f"{schema}.{table}"
    return (
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY own_rows ON {name} TO {schema}_app USING ({OWN_ROWS}) WITH CHECK ({OWN_ROWS})",
        f"CREATE POLICY all_rows ON {name} TO {schema}_worker USING (true) WITH CHECK (true)",
    )


def _add_organisation(schema: str, table: str) -> OnlineStep:
    name = f"{schema}.{table}"
    return _add_column(schema, table, f"ALTER POLICY own_rows ON {name} USING ({OWN_ROWS}) WITH CHECK ({OWN_ROWS})")


def _add_column(schema: str, table: str, *further: str) -> OnlineStep:
    name = f"{schema}.{table}"
    statements = (
        f"ALTER TABLE {name} ADD COLUMN org_id uuid",
        # Not part of ADD COLUMN, which would compute the default for existing rows.
        f"ALTER TABLE {name} ALTER COLUMN org_id SET DEFAULT ({ORGANISATION})::uuid",
        *further,
    )
    has_column = (
        "EXISTS (SELECT FROM pg_attribute "
        f"WHERE attrelid = '{name}'::regclass AND attname = 'org_id' AND NOT attisdropped)"
    )
    return OnlineStep(name, statements, has_column)
