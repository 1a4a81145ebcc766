"""Requests that arrive together share a batch, and what nobody waits for is not computed."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch
from rounding import assert_codes_of_prompt
from tiny.language import build_codes, build_tokenizer
from tiny.serve import held, metric, wait_for

from seed_hf.serve.batching import Lane
from seed_hf.serve.errors import RequestError
from seed_hf.serve.metrics import Metrics
from seed_hf.serve.sampling import FirstCodes, RowSampling
from seed_hf.serve.work import Item, Row, Work, WriteSettings


PROMPTS = ["a cat", "a photo of a red apple", "pear", "an orange diamond", "the moon"]


def test_requests_that_wait_share_a_batch(url, studio):
    def draw(prompt):
        return httpx.post(f"{url}/v1/images/generations", json={"prompt": prompt, "seed": 0}, timeout=None).json()

    def counts():
        return metric(url, 'seed_batch_rows_count{lane="write"}'), metric(url, 'seed_batch_rows_sum{lane="write"}')

    before = counts()
    with ThreadPoolExecutor() as pool, held(studio.model) as release:
        first = pool.submit(draw, "owl")
        wait_for(lambda: counts()[0] == before[0] + 1)
        others = [pool.submit(draw, prompt) for prompt in PROMPTS]
        wait_for(lambda: metric(url, "seed_requests_in_flight") == 1 + len(PROMPTS))
        release.set()
        answers = [future.result() for future in (first, *others)]
    assert counts() == (before[0] + 2, before[1] + 1 + len(PROMPTS))
    for prompt, answer in zip(["owl", *PROMPTS], answers, strict=True):
        assert_codes_of_prompt(studio.pipeline, prompt, torch.tensor([answer["data"][0]["codes"]]))


def test_what_nobody_waits_for_is_stopped(url, studio):
    names = ("seed_requests_disconnected_total", "seed_rows_stopped_total", "seed_generated_tokens_total")
    before = [metric(url, name) for name in names]
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 90, "stream": True}
    with held(studio.model, number=3) as release:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=None) as response:
            next(response.iter_lines())
        wait_for(lambda: metric(url, names[0]) == before[0] + 1)
        release.set()
        wait_for(lambda: metric(url, names[1]) == before[1] + 1)
    assert metric(url, names[2]) <= before[2] + 3  # of 90
    assert metric(url, "seed_requests_in_flight") == 0


def test_a_drawing_that_nobody_waits_for_is_stopped(url, studio):
    names = ("seed_requests_disconnected_total", "seed_rows_stopped_total")
    before = [metric(url, name) for name in names]
    body = {"codes": [[0, 1]], "steps": 250}
    unet = studio.pipeline.unet
    calls = []
    counting = unet.register_forward_pre_hook(lambda *args: calls.append(1))
    with held(unet, number=2) as release:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/images/codes", json=body, timeout=httpx.Timeout(60, read=0.5))
        wait_for(lambda: metric(url, names[0]) == before[0] + 1)
        release.set()
        wait_for(lambda: metric(url, names[1]) == before[1] + 1)
    counting.remove()
    assert len(calls) < 10


@pytest.fixture
def lane():
    lane = Lane("write", Metrics(), max_batch=4, seconds=0.2)
    yield lane
    lane.close()


def test_one_job_does_not_spoil_the_others(lane):
    batches = []

    def work(items, settings):
        batches.append([item.value for item in items])
        return [1 / item.value for item in items]

    async def run():
        jobs = [lane.run(work, None, [Item(value) for value in values]) for values in ([1], [0], [2, 4])]
        return await asyncio.gather(*jobs, return_exceptions=True)

    first, second, third = asyncio.run(run())
    assert first == [1] and isinstance(second, ZeroDivisionError) and third == [0.5, 0.25]
    assert batches == [[1, 0, 2, 4], [1], [0], [2, 4]]


def test_batches_are_equal_jobs_up_to_the_limit(lane):
    batches = []

    def work(items, settings):
        batches.append((settings, len(items)))
        return items

    async def run():
        sizes = [("a", 2), ("b", 1), ("a", 1), ("a", 2), ("b", 1), ("c", 6)]
        await asyncio.gather(*(lane.run(work, key, [Item(key)] * size) for key, size in sizes))

    asyncio.run(run())
    assert batches == [("a", 3), ("b", 2), ("a", 2), ("c", 6)]


def test_a_wrong_prompt_leaves_the_others_alone(studio):
    picture = {"type": "image", "codes": [-1] * studio.image_tokenizer.config.num_query_tokens}
    chats = [[{"role": "user", "content": content}] for content in ([picture], "a cat")]
    work = Work(studio, Metrics())
    wrong, right = work.write([Row(chat) for chat in chats], WriteSettings("text", 3))
    assert isinstance(wrong, RequestError) and "`messages` is no prompt for the model: `codes` holds -1" in str(wrong)
    assert right.num_prompt_tokens > 0 and right.finish_reason is not None


def test_a_row_is_sampled_as_if_it_were_alone():
    scores = torch.randn(3, 50)
    ids, settings = torch.zeros(3, 1, dtype=torch.long), ([0.7, 0, 1.5], [0.9, 1, 1], [1, 2, 3])
    sampling, alone = (
        RowSampling(*settings),
        [RowSampling(*([value] for value in row)) for row in zip(*settings, strict=True)],
    )
    for _ in range(3):
        together = sampling(ids, scores)
        for row, single in enumerate(alone):
            assert torch.equal(together[row], single(ids[:1], scores[row : row + 1])[0])
    assert torch.equal(together[1], scores[1])


def test_samples_follow_the_probabilities():
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    for top_p, expected in ((1.0, (scores / 2).softmax(-1)), (0.6, torch.tensor([[0.6225, 0.3775, 0, 0]]))):
        sampling = RowSampling([2.0], [top_p], [0])
        drawn = torch.stack([sampling(None, scores).argmax(-1) for _ in range(2000)])
        share = torch.bincount(drawn.flatten(), minlength=4) / 2000
        assert (share - expected[0]).abs().max() < 0.06  # five standard deviations of a share of one half


def test_images_begin_with_given_codes():
    layout = build_tokenizer().image_token_layout
    codes = build_codes(2).tolist()
    ids = torch.tensor([layout.span(row)[:2] for row in codes])
    processed = FirstCodes(layout, [codes[0], codes[1][:1]])(ids, torch.randn(2, 400))
    assert processed[0].argmax() == layout.first_image_token_id + codes[0][1] and processed[0].isinf().sum() == 399
    assert processed[1].isfinite().all()
