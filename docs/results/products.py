"""Where CTranslate2's time goes at one sentence at a time, by oneDNN's own log: products of one row, by their shape.

python docs/results/products.py EXPORT TEXT [SENTENCES]     an export for CTranslate2 in int8; text in its source language
"""

import os
import subprocess
import sys
from collections import defaultdict

CHILD = """
import sys, time, ctranslate2, sentencepiece
folder, text, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
pieces = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/source.spm").encode(
    open(text, encoding="utf-8").read().split("\\n")[:count], out_type=str
)
translator = ctranslate2.Translator(folder, intra_threads=1, inter_threads=1)
start, tokens = time.perf_counter(), 0
for row in pieces:
    tokens += len(translator.translate_batch([row], beam_size=1, max_decoding_length=70)[0].hypotheses[0])
print(f"total,{tokens},{1000 * (time.perf_counter() - start)}", flush=True)
"""


def main() -> None:
    """Prints milliseconds a token."""
    words = [sys.executable, "-c", CHILD, *sys.argv[1:3], *(sys.argv[3:] or ["24"])]
    done = subprocess.run(words, env={**os.environ, "ONEDNN_VERBOSE": "1"}, capture_output=True, text=True, check=True)
    took: dict[str, float] = defaultdict(float)
    tokens, whole = 1, 0.0
    for line in done.stdout.splitlines():
        parts = line.split(",")
        if parts[0] == "total":
            tokens, whole = int(parts[1]), float(parts[2])
        elif "exec" in parts and "src_u8" in line and parts[-2].startswith("1x"):
            took[parts[-2]] += float(parts[-1])
    print(f"{whole / tokens:.2f} ms a token, {sum(took.values()) / tokens:.2f} of them integer products of one row:")
    for shape, milliseconds in sorted(took.items(), key=lambda each: -each[1]):
        inner, columns = map(int, shape.split(":")[1].split("x"))
        print(f"  {shape:16} {milliseconds / tokens:.2f} ms a token")
        if milliseconds == max(took.values()):
            rate = inner * columns * tokens / milliseconds / 1e6
            print(f"    {inner * columns / 1e6:.1f} MB, read once a token: {rate:.1f} GB/s")


if __name__ == "__main__":
    main()
