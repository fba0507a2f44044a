"""The words that options may have: of the library and the command line, which shows them without importing what they choose."""

ENGINES = ("transformers", "ctranslate2")
QUANTIZATIONS = ("float32", "int8", "int8_float32", "int16", "float16", "bfloat16", "int8_float16", "int8_bfloat16")
TARGETS = ("ctranslate2", "onnx", "web", "argos")  # of exports
LONG = ("split", "cut", "refuse")  # lines that are longer than a model takes
BAD_LINES = ("stop", "skip", "copy")
PREFERENCES = ("best", "smallest", "fastest")
AXES = ("updates", "cost", "best")
METRICS = ("bleu", "chrf")
LAYOUTS = ("repositories", "subfolders")
