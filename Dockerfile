# docker build -t caffe-merge .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/models caffe-merge --model P --weights W
#
# Flags alone are merge_bn.py's; a command (plan, validate, inspect, merge) is caffe-merge's.
# `--target caffe` makes an image with real Caffe in it, for `--validate pycaffe`.

FROM python:3.13.7-slim-bookworm AS build
# protoc compiles the schema into the wheel; nothing needs it at run time.
RUN pip install --no-cache-dir setuptools==80.9.0 wheel==0.45.1 grpcio-tools==1.76.0
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY proto proto
COPY caffe_merge caffe_merge
# No time of the build gets into the wheel or the bytecode: two builds have the same files.
RUN SOURCE_DATE_EPOCH=315532800 \
    pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .
# numpy and h5py bring 20 MB of tests.
RUN python -m venv --without-pip /opt/caffe_merge \
    && pip --python /opt/caffe_merge install --no-cache-dir --no-compile /wheel/*.whl \
       numpy==2.3.3 protobuf==6.32.1 h5py==3.14.0 tqdm==4.67.1 \
    && find /opt/caffe_merge -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/caffe_merge/lib

# A Caffe that has the layers of forks too: pycaffe from the wheel tpu-mlir, for x86-64 and Python
# 3.10, in an environment of its own: it wants numpy and protobuf of its time.
FROM python:3.10.18-slim-bookworm AS caffe
COPY --from=build /wheel /wheel
COPY tools/caffe_env.py /tools/
RUN pip install --no-cache-dir --no-compile /wheel/*.whl \
       numpy==2.2.6 protobuf==6.32.1 h5py==3.14.0 tqdm==4.67.1 \
    && printf '%s\n' numpy==1.24.4 protobuf==3.20.3 scikit-image==0.25.2 six==1.17.0 \
       PyYAML==6.0.3 > /tools/pins \
    && PIP_CONSTRAINT=/tools/pins PIP_NO_CACHE_DIR=1 CAFFE_MERGE_REQUIRE_CAFFE=1 \
       python /tools/caffe_env.py --forks /opt/caffe
ENV CAFFE_MERGE_CAFFE_PYTHON=/opt/caffe/bin/python
LABEL org.opencontainers.image.title="caffe_merge" \
      org.opencontainers.image.description="Caffe pairs made faster, with real Caffe to validate" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="BSD-2-Clause"
WORKDIR /models
ENTRYPOINT ["sh", "-c", \
    "case $1 in -*) exec merge_bn.py \"$@\";; esac; exec caffe-merge \"$@\"", "sh"]
CMD ["--help"]

FROM python:3.13.7-slim-bookworm
COPY --from=build /opt/caffe_merge /opt/caffe_merge
ENV PATH=/opt/caffe_merge/bin:$PATH
LABEL org.opencontainers.image.title="caffe_merge" \
      org.opencontainers.image.description="Caffe pairs made faster" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="BSD-2-Clause"
WORKDIR /models
ENTRYPOINT ["sh", "-c", \
    "case $1 in -*) exec merge_bn.py \"$@\";; esac; exec caffe-merge \"$@\"", "sh"]
CMD ["--help"]
