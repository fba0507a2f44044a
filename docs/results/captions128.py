"""The systems of docs/results.md on captions at 128 wide, on a processor; goes on where it was cut off.

python docs/results/captions128.py FOLDER_WITH_THE_TEXT OUTPUT [--jobs 1] [--seconds N] [--field value …]
"""

from captions import TEXT, jobs, write_text
from study import Study

UPDATES = 3200
SHAPE = (
    *TEXT,
    *("--max_tokens=2048", f"--max_steps={UPDATES}", "--warmup_steps=320", "--eval_steps=400", "--logging_steps=100"),
)
GRID = [("1e-3", "0.2"), ("1e-3", "0.3")]

if __name__ == "__main__":
    study = Study(__file__, "multi30k-de-en", __doc__)
    if not study.options.one:
        write_text(study.options.text, study.folder / "text")
    study.run(jobs(study, SHAPE, GRID, UPDATES))
