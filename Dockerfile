# machine-asd on a CPU, as a user without rights. Banks and weights are mounted, nothing is fetched when it runs.
#
#   docker build -t machine-asd .
#   docker run --rm -v $PWD/pump.bank:/banks/pump.bank:ro -e ASD_SERVE_TOKEN -p 127.0.0.1:8765:8765 machine-asd
#   docker run --rm -v $PWD/pump.bank:/banks/pump.bank:ro -v /srv/recordings:/in:ro -v $PWD/state:/state \
#       machine-asd watch /banks/pump.bank /in --state /state
#
# .ci/container.sh builds and tries it, or runs the same steps where nothing can build it.
FROM python:3.12-slim
# From its own index torch comes without the 3 GB of GPU libraries.
COPY constraints.txt /src/
RUN pip install --no-cache-dir -c /src/constraints.txt torch torchaudio --index-url https://download.pytorch.org/whl/cpu
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt "/src[serve,watch,mqtt,s3]" && rm -rf /src
RUN useradd --uid 10001 --create-home asd && mkdir /banks /weights /state && chown asd /state /weights
USER 10001
WORKDIR /state
ENV ASD_HOME=/weights ASD_OFFLINE=1 OMP_NUM_THREADS=2
EXPOSE 8765
HEALTHCHECK --interval=30s --start-period=60s CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/health', timeout=5)"
ENTRYPOINT ["asd"]
CMD ["serve", "/banks", "--host", "0.0.0.0"]
