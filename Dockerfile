# A server of exports, see docs/serving.md:
#   docker build -t paretokd .
#   docker run -p 5000:5000 -v "$PWD/exports:/exports:ro" paretokd /exports/de-en
FROM python:3.11-slim

# more words for pip, such as where to find torch without CUDA
ARG PIP_OPTIONS=""

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY hf_paretokd hf_paretokd
COPY recipes recipes
COPY model_cards model_cards
RUN pip install --no-cache-dir -c constraints.txt $PIP_OPTIONS torch
RUN pip install --no-cache-dir -c constraints.txt $PIP_OPTIONS '.[serve]'

ENV HF_HUB_OFFLINE=1
USER nobody
EXPOSE 5000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health')"]
ENTRYPOINT ["paretokd", "serve", "--host", "0.0.0.0"]
