"""Rewards seed-mini for images that fit their words, with TRL's GRPO; no picture is drawn while it learns.

    python examples/draw_better_with_grpo.py

A rollout is 34 tokens long and its reward comes from the codes, so that 200 steps take minutes on a laptop.
"""

import argparse

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from seed_hf import SeedForCausalLM, SeedImageTokenizer, SeedProcessor
from seed_hf.mini import mini_language_model_path, mini_pipeline_path
from seed_hf.rewards import CodeTextSimilarity


WORDS = ["red apple", "green heart", "yellow star", "blue car", "guitar", "strawberry", "dog", "cat", "sun", "tree"]


def main(argv: list[str] | None = None) -> GRPOTrainer:
    """Trains, and prints the reward of the first and of the last steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", default="out/grpo", help="folder for the LoRA adapter")
    parser.add_argument("--max-steps", type=int, default=200, help="optimizer updates")
    args = parser.parse_args(argv)
    processor = SeedProcessor.from_pretrained(mini_language_model_path())
    folder = mini_pipeline_path() + "/image_tokenizer"
    image_tokenizer = SeedImageTokenizer.from_pretrained(folder)
    ask = processor.image_prompt.format
    captions = {ask(caption=words): words for words in WORDS}
    reward = CodeTextSimilarity(
        image_tokenizer, AutoTokenizer.from_pretrained(folder), processor.tokenizer, captions.get
    )
    model = SeedForCausalLM.from_pretrained(mini_language_model_path(), dtype="float32")
    settings = GRPOConfig(
        args.output_dir, max_steps=args.max_steps, learning_rate=1e-3, per_device_train_batch_size=8,
        num_generations=8, max_completion_length=34, generation_kwargs={"generation_mode": "image"},
        gradient_checkpointing=False, use_cpu=True, bf16=False, report_to=[], save_strategy="no", logging_steps=5,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model, reward, settings, train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in captions]),
        processing_class=processor.tokenizer, peft_config=LoraConfig(r=16, target_modules=model.lora_target_modules()),
    )  # fmt: skip
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    start, end = (sum(part) / len(part) for part in (rewards[:4], rewards[-4:]))
    print(f"mean reward of the first 20 steps {start:.3f}, of the last 20 {end:.3f}")
    trainer.save_model()
    return trainer


if __name__ == "__main__":
    main()
