# `seed-hf serve` from this repository alone, on the CPU, with seed-mini, which the package brings:
#
#   docker build -t seed-hf .
#   docker run -p 127.0.0.1:8000:8000 -e SEED_HF_API_KEY=secret seed-hf
#
# Another model: mount its folder and name it, `docker run -v "$PWD/model:/model:ro" ... seed-hf --model /model`.
FROM python:3.12-slim

# the build of torch without GPU libraries, which are several gigabytes
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE seed_hf_script.py ./
COPY seed_hf seed_hf
RUN pip install --no-cache-dir ".[serve]" && rm -rf /src/*

RUN useradd --create-home seed
USER seed
WORKDIR /srv
# nothing is fetched unless a model on the Hub is named: then run with -e HF_HUB_OFFLINE=0
ENV HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false
EXPOSE 8000
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
# the address is that of the container: `docker run -p` chooses who reaches it
ENTRYPOINT ["seed-hf", "serve", "--host", "0.0.0.0"]
