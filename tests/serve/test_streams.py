"""Answers while they are written, for readers of any speed."""

import asyncio

from seed_hf.serve.desk import Desk
from seed_hf.serve.settings import ServerSettings
from seed_hf.serve.streams import Preview, follow
from seed_hf.serve.work import Row


def test_previews_reach_a_reader_who_is_slower_than_the_writer(studio):
    desk, row = Desk(studio, "toy", ServerSettings()), Row("a cat")

    async def read():
        events = []
        async for event in follow(desk, [row], "image", 64, num_previews=2):
            while row.finish_reason is None:
                await asyncio.sleep(0.01)
            if not events:
                await asyncio.sleep(0.1)  # the writer ends before the second event is read
            events.append(event)
        return events

    events = asyncio.run(read())
    desk.close()
    assert [event.number for event in events if isinstance(event, Preview)] == [0, 1]
