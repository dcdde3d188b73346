# docker build -t caffe-merge .
# docker run --rm caffe-merge                     all commands; docs/docker.md has the rest
#
# `--target caffe` has real Caffe too, for `--validate pycaffe`: x86-64 only.

FROM python:3.13.7-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/pins.txt
COPY tools/image/pins.txt /
# protoc compiles the schema into the wheel; nothing needs it at run time.
RUN pip install setuptools wheel grpcio-tools
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY proto proto
COPY caffe_merge caffe_merge
# No time of the build gets into the wheel or the bytecode: two builds have the same files.
RUN SOURCE_DATE_EPOCH=315532800 \
    pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .
# numpy, h5py and distributed bring 30 MB of tests.
RUN python -m venv --without-pip /opt/caffe_merge \
    && pip --python /opt/caffe_merge install --no-compile \
       "caffe_merge[cluster,hdf5,images] @ file://$(echo /wheel/*.whl)" \
    && find /opt/caffe_merge -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/caffe_merge/lib

# A Caffe that has the layers of forks too: pycaffe from the wheel tpu-mlir, for x86-64 and Python
# 3.10, in an environment of its own: it wants numpy and protobuf of its time.
FROM python:3.10.18-slim-bookworm AS pycaffe
COPY tools/image/caffe_pins.txt tools/caffe_env.py /tools/
RUN PIP_CONSTRAINT=/tools/caffe_pins.txt PIP_NO_CACHE_DIR=1 CAFFE_MERGE_REQUIRE_CAFFE=1 \
       python /tools/caffe_env.py --forks /opt/caffe \
    && find /opt/caffe -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash -x 'test|idlelib|tkinter' \
       /opt/caffe /usr/local/lib/python3.10

FROM python:3.13.7-slim-bookworm AS run
COPY --from=build /opt/caffe_merge /opt/caffe_merge
COPY tools/image/entry.sh /opt/caffe_merge/
ENV PATH=/opt/caffe_merge/bin:$PATH
# The base has no bytecode, and its user may write none: every start would compile Python's library.
RUN python -m compileall -q --invalidation-mode unchecked-hash -x 'test|idlelib|tkinter' \
    /usr/local/lib/python3.13
LABEL org.opencontainers.image.title="caffe_merge" \
      org.opencontainers.image.description="Caffe pairs made faster" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="BSD-2-Clause"
WORKDIR /models
USER 1000:1000
ENTRYPOINT ["sh", "/opt/caffe_merge/entry.sh"]
CMD ["--help"]

FROM run AS caffe
COPY --from=pycaffe /usr/local/bin/python3.10 /usr/local/bin/
COPY --from=pycaffe /usr/local/lib/libpython3.10.so.1.0 /usr/local/lib/
COPY --from=pycaffe /usr/local/lib/python3.10 /usr/local/lib/python3.10
COPY --from=pycaffe /opt/caffe /opt/caffe
USER root
RUN ldconfig
USER 1000:1000
ENV CAFFE_MERGE_CAFFE_PYTHON=/opt/caffe/bin/python

# The image without a --target.
FROM run
