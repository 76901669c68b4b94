# syntax=docker/dockerfile:1
# CPU or CUDA is decided by the torch build alone: pass TORCH_INDEX_URL to choose the wheel index.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX_URL=""
# "[quantization]" brings what a base in 8 or 4 bits needs.
ARG EXTRAS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
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

FROM ${PYTHON_IMAGE} AS run
RUN useradd --create-home --uid 10001 repertoire \
    && mkdir -p /data/adapters /data/cache \
    && chown -R repertoire /data
COPY --from=build /opt/venv /opt/venv
COPY docker/probe.py /usr/local/lib/repertoire/probe.py
COPY --chown=repertoire demo/demo-base /models/demo-base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REPERTOIRE_BASE_MODEL=/models/demo-base \
    REPERTOIRE_ADAPTERS_STORE=/data/adapters \
    REPERTOIRE_CACHE_DIR=/data/cache \
    REPERTOIRE_HOST=0.0.0.0 \
    REPERTOIRE_PORT=8000 \
    REPERTOIRE_LOG_FORMAT=json
USER 10001
WORKDIR /home/repertoire
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "/usr/local/lib/repertoire/probe.py", "/health"]
# Starts only with a key (REPERTOIRE_API_KEY or _FILE) or REPERTOIRE_ALLOW_UNAUTHENTICATED=true.
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
