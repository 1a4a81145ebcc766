"""Fine-tunes seed-mini with TRL's SFTTrainer and LoRA on a folder of captioned images, to caption and to draw them.

    python examples/fine_tune_on_a_folder.py FOLDER --output-dir out/mine

FOLDER holds images and a `metadata.csv` with the columns `file_name` and `text`; without it the example takes a few
drawings that seed-mini was not trained on. An image is 34 words of text, so that training on text will do.
"""

import argparse
import json
from pathlib import Path

from datasets import Dataset, load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from seed_hf import SeedForCausalLM, SeedProcessor
from seed_hf.mini import mini_language_model_path, mini_pictures_path, mini_pipeline_path


def load_pairs(folder: str | None) -> tuple[list, list[str]]:
    """Images, or their files, and captions."""
    if folder is not None:
        rows = load_dataset("imagefolder", data_dir=folder, split="train")
        return list(rows["image"]), list(rows["text"])
    rows = json.loads(Path(mini_pictures_path(), "pictures.json").read_text())
    return [Path(mini_pictures_path(), row["file"]) for row in rows], [row["caption"] for row in rows]


def main(argv: list[str] | None = None) -> SFTTrainer:
    """Trains, saves the adapter, and prints a caption of each image before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="images and metadata.csv")
    parser.add_argument("--output-dir", default="out/mine", help="folder for the LoRA adapter")
    parser.add_argument("--max-steps", type=int, default=60, help="optimizer updates")
    args = parser.parse_args(argv)
    model = SeedForCausalLM.from_pretrained(mini_language_model_path(), dtype="float32")
    processor = SeedProcessor.from_pretrained(mini_language_model_path())
    processor.tokenizer.image_tokenizer_id = mini_pipeline_path()
    images, captions = load_pairs(args.folder)
    codes = processor.encode_image(images)
    tokenizer, spans = processor.tokenizer, [processor.tokenizer.codes_to_text(row) for row in codes]
    asked = [processor.caption_prompt.replace("<image>", span) for span in spans]
    texts = [tokenizer.escape_control_tokens(caption) for caption in captions]
    pairs = [(prompt, f" {text}") for prompt, text in zip(asked, texts, strict=True)]
    pairs += [(processor.image_prompt.format(caption=text), span) for text, span in zip(texts, spans, strict=True)]

    def write_captions():
        inputs = tokenizer(asked, padding=True, return_tensors="pt")
        written = model.eval().generate(**inputs, max_new_tokens=8, do_sample=False)
        return processor.post_process_generation(written, prompt_length=inputs.input_ids.shape[1])

    before = write_captions()
    settings = SFTConfig(
        args.output_dir, max_steps=args.max_steps, learning_rate=1e-3, per_device_train_batch_size=8, max_length=None,
        gradient_checkpointing=False, use_cpu=True, bf16=False, report_to=[], save_strategy="no",
    )  # fmt: skip
    lora = LoraConfig(r=16, target_modules=model.lora_target_modules())
    rows = Dataset.from_list([{"prompt": prompt, "completion": completion} for prompt, completion in pairs])
    trainer = SFTTrainer(model, settings, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
    trainer.train()
    trainer.save_model()
    for text, old, new in zip(captions, before, write_captions(), strict=True):
        print(f"{text}: {old!r} before, {new!r} after")
    return trainer


if __name__ == "__main__":
    main()
