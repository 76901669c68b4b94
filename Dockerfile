# syntax=docker/dockerfile:1
# CPU or CUDA is decided by the torch build alone: pass TORCH_INDEX_URL to choose the wheel index.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX_URL=""
# "[s3]" for a store in a bucket, "[quantization]" for a base in 8 or 4 bits, "[s3,tracing]" for both.
ARG EXTRAS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
# torch first and alone: the layer stays when only our own dependencies change.
RUN if [ -n "${TORCH_INDEX_URL}" ]; then \
        pip install --index-url "${TORCH_INDEX_URL}" "torch>=2.11,<2.14"; \
    else \
        pip install "torch>=2.11,<2.14"; \
    fi
COPY pyproject.toml README.md ./
COPY service service
RUN pip install "/src${EXTRAS}"
# For every sort of processor, not for this one: the image has no compiler where it runs.
WORKDIR /
RUN python -m service.model.native.prebuild

FROM ${PYTHON_IMAGE} AS run
# "gcc libc6-dev" with a CUDA build of torch: Triton compiles its kernels where they run.
ARG SYSTEM_PACKAGES=""
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 ${SYSTEM_PACKAGES} \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 repertoire \
    && useradd --create-home --uid 10001 --gid 10001 repertoire \
    && mkdir -p /data/adapters /data/cache \
    && chown -R 10001:10001 /data
COPY --from=build /opt/venv /opt/venv
COPY docker/probe.py docker/make_bucket.py /usr/local/lib/repertoire/
COPY demo/demo-base /models/demo-base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REPERTOIRE_BASE_MODEL=/models/demo-base \
    REPERTOIRE_ADAPTERS_STORE=/data/adapters \
    REPERTOIRE_CACHE_DIR=/data/cache \
    REPERTOIRE_HOST=0.0.0.0 \
    REPERTOIRE_PORT=8000 \
    REPERTOIRE_LOG_FORMAT=json \
    HF_HOME=/data/cache/huggingface \
    TRITON_CACHE_DIR=/data/cache/triton
USER 10001:10001
WORKDIR /home/repertoire
# Nothing else is written, but for /tmp: the root may be read-only.
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "/usr/local/lib/repertoire/probe.py", "/health"]
# Starts only with a key (REPERTOIRE_API_KEY or _FILE) or REPERTOIRE_ALLOW_UNAUTHENTICATED=true.
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
