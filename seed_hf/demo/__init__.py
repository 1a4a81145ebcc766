"""The demo: what seed-mini sees in held-out drawings and draws for words; `python -m seed_hf.demo`."""
