# A worker on NVIDIA accelerators: PyTorch brings CUDA along, the host brings the driver (nvidia-container-toolkit).
# Build from the repository's root:
#   docker build -f docker/worker-gpu.Dockerfile -t touchstone-worker-gpu .
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY detectors detectors
COPY workers workers
COPY benchmarks benchmarks
RUN python -m venv /opt/touchstone \
 && /opt/touchstone/bin/pip install --no-cache-dir '.[engine,service]' -c constraints.txt

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
    TOUCHSTONE_SECRETS_DIR=/run/secrets \
    TOUCHSTONE_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/touchstone
CMD ["celery", "--quiet", "-A", "workers.celery_app", "worker", "--queues", "people,schedules", "--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
