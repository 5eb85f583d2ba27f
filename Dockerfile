# Images from one file: `web` has no TensorFlow, `worker` serves any of the queues, `worker-gpu` as well, on a GPU of
# NVIDIA. They hold Python, the packages and the libraries that these load (deploy/image/rootfs.py): no shell, no
# package manager, no other program.
# Built by BuildKit and by the classic builder alike, so nothing here needs BuildKit.
FROM python:3.11-slim-bookworm AS base
COPY deploy/image/install /build/
RUN mkdir /build/empty


# The code as plain files. Compiled here, since the running container cannot write beside it.
FROM base AS code
COPY common /app/common
COPY web /app/web
COPY workers /app/workers
RUN python -m compileall -q /app


# Nothing of the base image but its Python, which comes with the packages. The uid is fixed, so that a shared data
# folder has the same owner on every host; a fresh named volume takes over the owner of the folder it is mounted on.
FROM scratch AS runtime
ENV PATH=/opt/venv/bin \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    IMAGESEARCH_DATA_DIR=/data \
    IMAGESEARCH_CACHE_DIR=/cache \
    IMAGESEARCH_LIBRARY_ROOTS=library=/library
COPY --from=base --chown=10001:10001 /build/empty /data
COPY --from=base --chown=10001:10001 /build/empty /cache
COPY --from=base /build/empty /library
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["imagesearch"]


FROM base AS web-packages
COPY requirements/web.txt /build/requirements.txt
RUN /build/install /build/requirements.txt
COPY deploy/image/rootfs.py /build/
RUN python /build/rootfs.py /opt/venv /rootfs

FROM runtime AS web
COPY --from=web-packages /rootfs /
COPY --from=web-packages /opt/venv /opt/venv
COPY --from=code /app/common /app/common
COPY --from=code /app/web /app/web
EXPOSE 8000
CMD ["web", "--host", "0.0.0.0", "--port", "8000"]


FROM base AS worker-packages
COPY requirements/worker.txt /build/requirements.txt
RUN /build/install /build/requirements.txt
COPY deploy/image/rootfs.py /build/
RUN python /build/rootfs.py /opt/venv /rootfs

FROM runtime AS worker
COPY --from=worker-packages /rootfs /
COPY --from=worker-packages /opt/venv /opt/venv
COPY --from=code /app/common /app/common
COPY --from=code /app/workers /app/workers
CMD ["worker", "--queues", "query", "--wait-for-weights"]


# The last one, because the classic builder also builds what comes before its target.
FROM base AS worker-gpu-packages
COPY requirements/worker-gpu.txt /build/requirements.txt
RUN /build/install /build/requirements.txt
COPY deploy/image/rootfs.py /build/
RUN python /build/rootfs.py /opt/venv /rootfs

FROM runtime AS worker-gpu
# What the container toolkit of NVIDIA gives to the container.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=worker-gpu-packages /rootfs /
COPY --from=worker-gpu-packages /opt/venv /opt/venv
COPY --from=code /app/common /app/common
COPY --from=code /app/workers /app/workers
CMD ["worker", "--queues", "query", "--wait-for-weights"]
