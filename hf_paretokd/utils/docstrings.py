"""What docstrings say of arguments, so that help is written once."""

import inspect
import re


def argument_texts(kind: type) -> dict[str, str]:
    """The text of every argument in the `Args:` of a class and its bases, by name; the class itself has the last word."""
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        arguments = inspect.cleandoc(each.__doc__ or "").partition("\nArgs:\n")[2]
        for names, text in re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE):
            texts |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return texts
