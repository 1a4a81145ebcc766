"""`seed-hf serve`: a studio behind HTTP, in the shapes of OpenAI's API."""
