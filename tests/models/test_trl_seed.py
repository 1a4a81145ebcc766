"""TRL's trainers on the model as they are: supervised texts, chats and images, packing, preferences, rewards."""

import importlib

import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny.language import NUM_QUERY_TOKENS, build_image_tokenizer, build_seed_model, check_grammar

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedProcessor


pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # TRL uses names that transformers has renamed
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SETTINGS = {"use_cpu": True, "bf16": False, "report_to": [], "save_strategy": "no", "learning_rate": 1e-2}
SETTINGS |= {"gradient_checkpointing": False, "max_steps": 6, "logging_steps": 1, "disable_tqdm": True}
EMBEDDINGS = ("projected_codes", "learned")


@pytest.fixture(scope="module")
def trl():
    """Takes seconds to import, which only the worker that runs these tests should spend."""
    return importlib.import_module("trl")


@pytest.fixture(params=EMBEDDINGS)
def parts(request):
    """A model with an image tokenizer inside, and its processor."""
    model, tokenizer = build_seed_model("llama", embedding=request.param)
    image_tokenizer = build_image_tokenizer()
    if request.param == "projected_codes":
        codes = torch.arange(model.config.codebook_size)
        model.image_embeddings.codebook = image_tokenizer.get_code_vectors(codes).detach()
    model.attach_image_tokenizer(image_tokenizer)
    return model, SeedProcessor(SeedImageProcessor(size={"height": 28, "width": 28}), tokenizer)


def losses_of(trainer) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def chat(*parts):
    return [{"role": "user", "content": list(parts)}]


def text(words):
    return {"type": "text", "text": words}


ANSWER = [{"role": "assistant", "content": [text(" a red apple")]}]
ROWS = {
    "text": {"text": "a photo of a red apple"},
    "chat": {"messages": chat(text("a photo of")) + ANSWER},
    "image": {
        "images": [Image.new("RGB", (30, 30), "red")],
        "prompt": chat({"type": "image"}, text("a photo of")),
        "completion": ANSWER,
    },
}


# how a chat is written and texts are packed is the same whatever embeds the image tokens
LAYOUTS = [*((embedding, kind) for embedding in EMBEDDINGS for kind in ("text", "image"))]
LAYOUTS += [("projected_codes", "chat"), ("learned", "packing")]


@pytest.mark.parametrize(("parts", "kind"), LAYOUTS, indirect=["parts"])
def test_supervised(trl, parts, kind, tmp_path):
    model, processor = parts
    packing = {"packing": True, "max_length": 16} if kind == "packing" else {"max_length": None}
    args = trl.SFTConfig(str(tmp_path), **packing, **SETTINGS)
    rows = Dataset.from_list([ROWS["text" if kind == "packing" else kind]] * 8)
    given = processor if kind == "image" else processor.tokenizer
    if kind == "chat":
        given.chat_template = processor.chat_template
    losses = losses_of(trl.SFTTrainer(model, args, train_dataset=rows, processing_class=given))
    assert losses[-1] < 0.7 * losses[0], losses


def test_preferences(trl, parts, tmp_path):
    model, processor = parts
    model.save_pretrained(tmp_path / "model")  # where TRL loads the reference from
    model = SeedForCausalLM.from_pretrained(tmp_path / "model")
    row = {"prompt": "a photo of", "chosen": " a red apple", "rejected": " a blue cat"}
    rows = Dataset.from_list([row] * 8)
    args = trl.DPOConfig(str(tmp_path), **SETTINGS)
    losses = losses_of(trl.DPOTrainer(model, None, args, train_dataset=rows, processing_class=processor.tokenizer))
    assert losses[-1] < 0.7 * losses[0], losses


def test_rewards_of_images(trl, parts, tmp_path):
    """Every completion is one whole image, and the code that is paid for comes up more often."""
    model, processor = parts
    layout, completions = processor.tokenizer.image_token_layout, []

    def reward(completion_ids, **kwargs):
        completions.extend(completion_ids)
        return [sum(ids.count(layout.first_image_token_id + code) for code in range(8)) for ids in completion_ids]

    args = trl.GRPOConfig(
        str(tmp_path),
        num_generations=8,
        max_completion_length=NUM_QUERY_TOKENS + 2,
        generation_kwargs={"generation_mode": "image"},
        **SETTINGS | {"max_steps": 15, "per_device_train_batch_size": 8, "seed": 0},
    )
    rows = Dataset.from_list([{"prompt": "Generate an image: a green pear"}] * 8)
    trl.GRPOTrainer(model, reward, args, train_dataset=rows, processing_class=processor.tokenizer).train()
    assert len(completions) == 8 * 15
    for ids in completions:
        assert len(ids) == NUM_QUERY_TOKENS + 2
        check_grammar(ids, layout)
    earned = torch.tensor(reward(completions)).float()
    assert earned[-24:].mean() > earned[:24].mean()
