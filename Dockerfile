# The emulator, its notebooks and its tests. Jupyter is what it runs unless told otherwise; README.rst has the commands.
# Python 3.11, as the committed checkpoints. CUDA comes with the torch of requirements.txt; the host needs a driver.
FROM python:3.11.13-slim-bookworm

# make runs the recipes, torch.compile calls the compiler. Debian removes old versions from its archive: none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 astronomer \
    && mkdir /emulator \
    && chown 1000:1000 /emulator
USER 1000:1000
WORKDIR /emulator
ENV PATH="/emulator/.venv/bin:$PATH" \
    PIP_NO_CACHE_DIR=1

# Before the sources, so that a change of these does not install everything again.
COPY --chown=1000:1000 Makefile requirements.txt ./
RUN make venv

COPY --chown=1000:1000 . .
# The file just copied may be younger than a cached layer of the same contents: make need not build again.
RUN touch .venv/built

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"]
