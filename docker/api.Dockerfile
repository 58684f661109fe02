# The API and the ticker: no torch, no model is ever opened here. Build from the repository's root:
#   docker build -f docker/api.Dockerfile -t touchstone-api .
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY detectors detectors
COPY workers workers
COPY benchmarks benchmarks
RUN python -m venv /opt/touchstone \
 && /opt/touchstone/bin/pip install --no-cache-dir '.[service]' -c constraints.txt

FROM python:3.11-slim
COPY --from=build /opt/touchstone /opt/touchstone
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/touchstone touchstone \
 && install -d -o touchstone -g touchstone -m 0700 /var/lib/touchstone /var/cache/touchstone
# A place is no secret
# hadolint ignore=DL3064
ENV PATH=/opt/touchstone/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOUCHSTONE_DATA_DIR=/var/lib/touchstone \
    TOUCHSTONE_CACHE_DIR=/var/cache/touchstone \
    TOUCHSTONE_SECRETS_DIR=/run/secrets
USER 10001:10001
WORKDIR /var/lib/touchstone
EXPOSE 8765
CMD ["uvicorn", "--factory", "app.main:create", "--host", "0.0.0.0", "--port", "8765", "--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "5"]
