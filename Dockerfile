# The server's image. `--build-arg LOCAL_MODEL=1` builds in the small model that needs no key, and
# `--build-arg EXTRAS=openpyxl` more packages. For a fixed base: `--build-arg PYTHON=python@sha256:...`.
ARG PYTHON=python:3.13-slim
FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /app
RUN python3 -m venv /venv
COPY requirements.lock requirements-local.lock ./
RUN /venv/bin/pip install --no-deps --require-hashes -r requirements.lock
ARG LOCAL_MODEL=
RUN if [ -n "$LOCAL_MODEL" ]; then \
      /venv/bin/pip install --no-deps --require-hashes -r requirements-local.lock; \
    fi
ARG EXTRAS=
RUN if [ -n "$EXTRAS" ]; then /venv/bin/pip install -c requirements.lock $EXTRAS; fi
COPY pyproject.toml README.md LICENSE ./
COPY qacli qacli
COPY migrations migrations
# Editable, so that the migrations that `alembic` reads here are the ones that `qa` runs.
RUN /venv/bin/pip install --no-deps --editable . && \
    /venv/bin/pip uninstall --yes pip && \
    find /venv -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*' -exec rm -r {} + && \
    python3 -m compileall -q qacli migrations /venv/lib && \
    touch /venv/qa-image # so that advice names docker compose

FROM ${PYTHON}
ARG LOCAL_MODEL=
RUN if [ -n "$LOCAL_MODEL" ]; then \
      apt-get update && apt-get install -y --no-install-recommends libgomp1 && \
      rm -rf /var/lib/apt/lists/*; \
    fi
RUN useradd --uid 10001 --no-create-home --home-dir /tmp qa && mkdir /data && chown qa:qa /data
COPY --from=build /venv /venv
COPY --from=build /app /app
# For `alembic revision` in a container; otherwise only /data and /tmp are written, and the root file
# system may be read-only.
RUN chown qa:qa /app/migrations/versions
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    QA_DATA_DIR=/data QA_SERVE_PORT=8000
WORKDIR /app
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/is_up', timeout=2)"]
# Listening beyond the container needs QA_TOKEN; docker-compose.yml publishes on loopback instead.
CMD ["sh", "-c", "qa migrate --wait 60 && exec qa serve --host 0.0.0.0"]
