"""Questions asked one at a time, many at once, are answered in batches; a batch that is given up says so."""

import asyncio

import pytest

from primum.core.errors import StepFailedError, UsageError
from primum.core.records import user
from primum.models.engines.canned import CannedEngine
from primum.models.sampling import Sampling
from primum.pipeline.gather import Gather

SHORT, LONG = Sampling(0.0, 4), Sampling(0.0, 40)


def asked(count):
    return [(user(f"question {i}"),) for i in range(count)]


def test_what_is_asked_together_is_one_batch_and_each_gets_its_own_reply():
    gather = Gather(CannedEngine, most=100, wait=0.01)

    async def run():
        return await asyncio.gather(*(gather.ask(one, LONG, 3) for one in asked(20)))

    replies = asyncio.run(run())
    assert gather.batches == [20]
    assert [one.text for one in replies] == [CannedEngine()([one], LONG, 3)[0].text for one in asked(20)]
    assert len({one.text for one in replies}) > 1


def test_other_settings_are_other_batches_and_later_questions_a_later_one():
    gather = Gather(CannedEngine, wait=0.01)

    async def run():
        both = [gather.ask(one, settings) for one in asked(3) for settings in (SHORT, LONG)]
        first = await asyncio.gather(*both)
        return first, await gather.ask(asked(1)[0], SHORT)

    first, later = asyncio.run(run())
    assert gather.batches == [3, 3, 1]
    assert all(len(one.text.split()) <= 4 for one in first[::2])
    assert later == first[0]


def test_an_engine_that_fails_fails_every_question_of_the_batch():
    def broken():
        raise UsageError("no such model")

    gather = Gather(broken, wait=0.01)

    async def run():
        return await asyncio.gather(*(gather.ask(one, SHORT) for one in asked(3)), return_exceptions=True)

    found = asyncio.run(run())
    assert isinstance(found[0], UsageError)
    assert all(isinstance(one, StepFailedError) for one in found[1:])


def test_a_first_question_that_is_cancelled_does_not_leave_the_others_hanging():
    gather = Gather(CannedEngine, wait=5)

    async def run():
        first = asyncio.create_task(gather.ask(asked(1)[0], SHORT))
        await asyncio.sleep(0)
        second = asyncio.create_task(gather.ask(asked(2)[1], SHORT))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(StepFailedError, match="given up"):
            await asyncio.wait_for(second, 2)
        gather.wait = 0.01
        return await gather.ask(asked(1)[0], SHORT)  # and the next one is answered

    assert asyncio.run(run()).text
