"""The behaviour of every `UnitOfWork` of eval, fake and real."""

import pytest
from mesh_common.subject import Subject
from mesh_eval.domain import JudgedRun, RunScores, ScoreStatus
from mesh_eval.ports import UnitOfWork
from support.eval import new_subject, some_run, some_score


async def test_an_unknown_run_has_no_scores_and_is_not_pending(uow: UnitOfWork) -> None:
    async with uow.as_subject(new_subject()) as store:
        found = await store.list_scores(some_run().id)

    assert found == RunScores((), is_pending=False)


async def test_a_queued_run_is_pending_and_queued_once(uow: UnitOfWork) -> None:
    subject, run = new_subject(), some_run()

    async with uow.as_subject(subject) as store:
        first = await store.queue(run)
    async with uow.as_subject(subject) as store:
        second = await store.queue(run)
        found = await store.list_scores(run.id)

    assert (first, second) == (True, False)
    assert found == RunScores((), is_pending=True)


async def test_queued_runs_are_counted_by_user(uow: UnitOfWork) -> None:
    subject = new_subject()
    for owner in (subject, subject, new_subject()):
        async with uow.as_subject(owner) as store:
            await store.queue(some_run())

    async with uow.as_subject(subject) as store:
        count = await store.count_queued()

    assert count == 2


async def test_scores_come_back_as_they_were_stored_by_name(uow: UnitOfWork) -> None:
    subject, run = new_subject(), some_run()
    failed = some_score("relevancy", status=ScoreStatus.FAILED, value=None, reasoning="", trace_id=None)
    toxic = some_score("toxicity", value=0.0)

    async with uow.as_subject(subject) as store:
        await store.queue(run)
        await store.add_scores(run, [toxic, failed])
    async with uow.as_subject(subject) as store:
        found = await store.list_scores(run.id)
        is_judged = await store.is_judged(run.id)

    assert found == RunScores((failed, toxic), is_pending=False)
    assert is_judged


async def test_a_judged_run_is_not_queued_again_and_keeps_its_scores(uow: UnitOfWork) -> None:
    subject, run = new_subject(), some_run()
    first, second = some_score(value=0.1), some_score(value=0.9)

    async with uow.as_subject(subject) as store:
        await store.add_scores(run, [first])
    async with uow.as_subject(subject) as store:
        is_queued = await store.queue(run)
        await store.add_scores(run, [second])
        found = await store.list_scores(run.id)

    assert not is_queued
    assert found == RunScores((first,), is_pending=False)


async def test_a_stranger_sees_and_changes_nothing(uow: UnitOfWork) -> None:
    owner, stranger, run = new_subject(), new_subject(), some_run()
    async with uow.as_subject(owner) as store:
        await store.queue(run)
        await store.add_scores(run, [some_score(value=0.1)])

    async with uow.as_subject(stranger) as store:
        before = await store.list_scores(run.id)
        is_queued = await store.queue(run)
        await store.add_scores(run, [some_score(value=0.9)])
    async with uow.as_subject(owner) as store:
        after = await store.list_scores(run.id)

    assert before == RunScores((), is_pending=False)
    assert is_queued
    assert [score.value for score in after.scores] == [0.1]


async def test_work_of_a_transaction_that_fails_is_undone(uow: UnitOfWork) -> None:
    subject, run = new_subject(), some_run()

    with pytest.raises(RuntimeError):
        await _queue_and_fail(uow, subject, run)
    async with uow.as_subject(subject) as store:
        found = await store.list_scores(run.id)

    assert found == RunScores((), is_pending=False)


async def _queue_and_fail(uow: UnitOfWork, subject: Subject, run: JudgedRun) -> None:
    async with uow.as_subject(subject) as store:
        await store.queue(run)
        await store.add_scores(run, [some_score()])
        raise RuntimeError
