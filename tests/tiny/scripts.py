"""The flags with which tests start the training scripts on toys."""

import importlib

from tiny.language import build_base_tokenizer, build_language_model


def run_script(name, output_dir, *flags):
    shared = ["--output_dir", output_dir, "--batch_size", 4, "--log_every", 1, "--warmup_steps", 1]
    shared += ["--learning_rate", 1e-3, "--min_learning_rate", 0, "--warmup_learning_rate", 0, "--report_to", "none"]
    return importlib.import_module(name).main([str(flag) for flag in (*shared, *flags)])


def qformer_flags(data):
    return "--dataset", data["dataset"], "--config", data["config"], "--text_model", data["bert"]


def codebook_flags(data, image_tokenizer):
    return "--dataset", data["dataset"], "--init_model", image_tokenizer, "--target_model", data["bert"]


def causal_lm_flags(data, image_tokenizer, language_model):
    flags = ("--image_tokenizer", image_tokenizer, "--language_model", language_model, "--num_eval_images", 4)
    return "--dataset", data["dataset"], *flags


def save_language_model(folder):
    build_base_tokenizer().save_pretrained(folder)
    build_language_model().save_pretrained(folder)
