"""Make Markdown of what the docstrings write for Python's own help."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?\.?([\w.]+)`")
PUBLIC = re.compile(r"(?:negfast\.)?([A-Za-z]\w*)")


class Roles(griffe.Extension):
    """Turn cross references such as ``:func:`mine` `` into links where the reference has an entry for them."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite every docstring of the package."""
        public = {str(name) for name in pkg.exports or ()}
        pending: list[Any] = [pkg]
        while pending:
            item = pending.pop()
            if item.is_alias:
                continue
            if item.docstring is not None:
                item.docstring.value = ROLE.sub(lambda role: _link(role[1], public), item.docstring.value)
            pending.extend(item.members.values())


def _link(name: str, public: set[str]) -> str:
    found = PUBLIC.fullmatch(name)
    if found and found[1] in public:
        return f"[`{found[1]}`][negfast.{found[1]}]"
    return f"`{name}`"
