# Two images from one file: `web` has no TensorFlow, `worker` serves any of the queues.
# Built by BuildKit and by the classic builder alike, so nothing here needs BuildKit.
FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1


# The code as plain files. Compiled here, since the running container cannot write beside it.
FROM base AS code
COPY common /app/common
COPY web /app/web
COPY workers /app/workers
RUN python -m compileall -q /app


# The console script that `pip install` would write; the project itself is not a package of the image.
FROM base AS empty-venv
RUN python -m venv --without-pip /opt/venv \
    && printf '#!/opt/venv/bin/python\nimport sys\nfrom common.cli import main\nsys.exit(main())\n' \
        > /opt/venv/bin/imagesearch \
    && chmod 755 /opt/venv/bin/imagesearch


# A fixed uid, so that a shared data folder has the same owner on every host. A fresh named volume takes over the
# owner of the folder it is mounted on.
FROM base AS runtime
RUN groupadd --gid 10001 imagesearch \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin imagesearch \
    && install -d -o imagesearch -g imagesearch /data /cache \
    && install -d /library
ENV HOME=/tmp \
    IMAGESEARCH_DATA_DIR=/data \
    IMAGESEARCH_CACHE_DIR=/cache \
    IMAGESEARCH_LIBRARY_ROOTS=library=/library
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["imagesearch"]


FROM empty-venv AS web-packages
COPY requirements/web.txt /tmp/requirements.txt
# Setuptools is in the list to install the project itself, and the tests of other packages are never run here.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --only-binary :all: \
        --require-hashes -r /tmp/requirements.txt \
    && pip --python /opt/venv/bin/python uninstall --yes --quiet setuptools \
    && find /opt/venv -type d -name tests -prune -exec rm -r {} +

FROM runtime AS web
COPY --from=web-packages /opt/venv /opt/venv
COPY --from=code /app/common /app/common
COPY --from=code /app/web /app/web
EXPOSE 8000
CMD ["web", "--host", "0.0.0.0", "--port", "8000"]


FROM empty-venv AS worker-packages
COPY requirements/worker.txt /tmp/requirements.txt
# TensorFlow's C++ headers and libclang are for building extensions of it: 350 MB that nothing reads here.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --only-binary :all: \
        --require-hashes -r /tmp/requirements.txt \
    && rm -r /opt/venv/lib/python3.11/site-packages/tensorflow/include /opt/venv/lib/python3.11/site-packages/clang \
    && find /opt/venv -type d -name tests -prune -exec rm -r {} +

FROM runtime AS worker
COPY --from=worker-packages /opt/venv /opt/venv
COPY --from=code /app/common /app/common
COPY --from=code /app/workers /app/workers
CMD ["worker", "--queues", "query", "--wait-for-weights"]
