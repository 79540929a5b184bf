"""Make Markdown of what the docstrings write for Python's own help."""

import inspect
import re
from typing import Any

import griffe

from negfast import _negfast

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?\.?([\w.]+)`")
PUBLIC = re.compile(r"(?:negfast\.)?([A-Za-z]\w*)")
TYPE = re.compile(r"^( *[\w, ]+ : )(.*)$", re.MULTILINE)


class Plain(griffe.Extension):
    """Turn cross references into links, and the types of parameters into what can be shown as code."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite every docstring of the package."""
        public = {str(name) for name in pkg.exports or ()}
        pending: list[Any] = [pkg]
        while pending:
            item = pending.pop()
            if item.is_alias:
                continue
            if item.docstring is not None:
                text = ROLE.sub(lambda role: _link(role[1], public), item.docstring.value)
                item.docstring.value = TYPE.sub(lambda line: line[1] + _type(line[2]), text)
            elif item.path.startswith("negfast._negfast."):
                _take_compiled(item)
            pending.extend(item.members.values())


def _link(name: str, public: set[str]) -> str:
    found = PUBLIC.fullmatch(name)
    if found and found[1] in public:
        return f"[`{found[1]}`][negfast.{found[1]}]"
    return f"`{name}`"


def _type(text: str) -> str:
    # Of `{"a", "b"} or more` the parser would show the choices alone.
    text = re.sub(r"\{([^}]*)\}", lambda choices: choices[1].replace(", ", " or "), text)
    return text.replace("`", "")


def _take_compiled(item: Any) -> None:
    """Take the docstring of what the compiled module makes from that module: its stub has none."""
    value = getattr(_negfast, item.name, None)
    if value is not None and value.__doc__:
        item.docstring = griffe.Docstring(inspect.cleandoc(value.__doc__), parent=item)
