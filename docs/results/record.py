"""Records the first hour in a terminal of 80 × 24 as text, for docs/terminal.md (needs `pip install pyte`).

python docs/results/record.py FOLDER
"""

import argparse
import fcntl
import os
import pty
import select
import struct
import sys
import termios
from pathlib import Path

import pyte
from write_tables import HERE, write

TOY = "--model.encoder_layers 4 --model.decoder_layers 4 --model.d_model 128 --model.encoder_ffn_dim 256"
TOY += " --model.decoder_ffn_dim 256 --max_tokens 1024 --warmup_steps 150"
SHOWN = {  # what is typed, and after which word Ctrl-C is pressed
    "paretokd demo --data.pairs fr-en bs-en --max_steps 240 --eval_steps 60": None,
    "paretokd init demo/text --pairs fr-en bs-en": None,
    f"paretokd train recipe.yaml --max_steps 240 --eval_steps 40 {TOY}": "  120 ",
    "paretokd train runs/first --resume": None,
    "paretokd choose runs/first --max-mb 10": None,
}


def recorded(command: str, folder: Path, until: str | None) -> list[str]:
    """The lines of one command, as they stand on the screen and above it when it has ended."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", COLUMNS="80", LINES="24")
        os.execv(Path(sys.executable).parent / "paretokd", command.split())
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    screen = pyte.HistoryScreen(80, 24, history=5000)
    stream = pyte.ByteStream(screen)
    while True:
        ready, _, _ = select.select([terminal], [], [], 1.0)
        if not ready:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
        if until and any(until in line for line in screen.display):
            os.write(terminal, b"\x03")
            until = None
    os.waitpid(process, 0)
    above = ["".join(line[column].data for column in range(80)) for line in screen.history.top]
    lines = [line.rstrip() for line in [*above, *screen.display]]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def main() -> None:
    """Types every command and writes what was seen into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an empty one")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    seen = []
    for command, until in SHOWN.items():
        seen += [f"$ {command}", *recorded(command, folder, until), ""]
        print("\n".join(seen[-30:]))
    write(HERE.parent / "terminal.md", "recording", "```text\n" + "\n".join(seen).rstrip() + "\n```")


if __name__ == "__main__":
    main()
