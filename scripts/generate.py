"""Writes what follows from the registry and the configurations, so that nobody has to by hand.

    scripts/generate

Writes the stub of the package and the keywords of configurations, which type checkers and editors
read, the tables of models in README.md and docs/models.md, and the page of tests docs/coverage.md.
`tests/project/test_generated.py` fails where one is out of date. A merge's conflicts inside of what
is generated go away by running it.
"""

import ast
import re
import subprocess
import sys
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import _coverage

from flaxmodels.config.config import Config
from flaxmodels.documents.field_types import hints_of
from flaxmodels.names import ROOMS, public_names
from flaxmodels.registry import AUTO_CLASSES, FAMILIES, HEADS, Family, ending_of, family_class

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- written by scripts/generate: begin -->"
END = "<!-- written by scripts/generate: end -->"


def main() -> None:
    for path, make in FILES.items():
        old = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        if (new := make(old)) != old:
            (ROOT / path).write_text(new)
            print(f"wrote {path}")


def stub(_: str = "") -> str:
    """Makes `flaxmodels/__init__.pyi`: every public name, under its home's name or another one.
    Classes that `families.classes_of` makes are declared, with the bases that have a source."""
    lines = [f"from . import {room} as {room}" for room in ROOMS]
    made, others = [], []
    names = base_names()
    for name, (module, there) in public_names().items():
        if name != there:
            others.append(f"{name} = {there}")
        elif is_written(module, name):
            lines.append(f"from .{module} import {name} as {name}")
        else:
            bases = written_bases(family_class(name))
            for base in bases:
                other = "" if names[base] == base.__name__ else f" as {names[base]}"
                lines.append(f"from {base.__module__} import {base.__name__}{other}")
            made.append(f"class {name}({', '.join(names[base] for base in bases)}): ...")
    head = '"""The public names, for type checkers. Written by `scripts/generate`."""\n'
    body = "\n".join([head, *lines, "", "__version__: str", *made, *sorted(others), ""])
    return formatted(body.replace("from flaxmodels.", "from ."), "__init__.pyi")


def base_names() -> dict[type, str]:
    """Names the bases of all classes that are made: those that share a name by their module too."""
    made = [name for name, (module, there) in public_names().items() if name == there]
    made = [name for name in made if not is_written(public_names()[name][0], name)]
    bases = {base for name in made for base in written_bases(family_class(name))}
    counts = Counter(base.__name__ for base in bases)
    return {
        base: base.__name__
        if counts[base.__name__] == 1
        else f"{base.__module__.rpartition('.')[2].title().replace('_', '')}{base.__name__}"
        for base in bases
    }


def is_written(module: str, name: str) -> bool:
    """Tells whether the source of a family's module has the name; if not, its class is made."""
    if not module.startswith("families."):
        return True
    body = ast.parse((ROOT / "flaxmodels" / f"{module.replace('.', '/')}.py").read_text()).body
    imported = (each.names for each in body if isinstance(each, ast.ImportFrom))
    classes = (each.name for each in body if isinstance(each, ast.ClassDef))
    return name in {*classes, *(alias.name for names in imported for alias in names)}


def written_bases(cls: type) -> list[type]:
    """Lists the bases of a class; in the place of one that has no source, its own."""
    found = []
    for base in cls.__bases__:
        written = is_written(base.__module__.removeprefix("flaxmodels."), base.__name__)
        found += [base] if written else written_bases(base)
    return [b for b in found if not any(b is not other and issubclass(other, b) for other in found)]


def config_fields(_: str = "") -> str:
    """Makes `ConfigFields`: the fields of all configurations, under all their names, as types."""
    configs = [family_class(family.config) for family in FAMILIES.values()]
    found: dict[str, set[str]] = {}
    for config in (Config, *configs):
        for name, hint in keywords_of(config).items():
            found.setdefault(name, set()).update(spelled(hint))
    fields = [f"    {name}: {' | '.join(in_order(types))}" for name, types in sorted(found.items())]
    parts = "from ..config.config import Config\n" if re.search(r"\bConfig\b", str(fields)) else ""
    text = f'''"""The fields of configurations as keywords, for editors and type checkers.

Written by `scripts/generate` from the configurations of all families.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

{parts}from ..documents.json_values import Json


class ConfigFields(TypedDict, total=False):
    """Fields of the configurations of all families, under all their names."""

{chr(10).join(fields)}
'''
    return formatted(text, "config_fields.py")


def keywords_of(config: type[Config]) -> dict[str, Any]:
    """Returns {name under which a caller may give a field: type} of a configuration's class."""
    hints = {name: hint for name, hint in hints_of(config).items() if name != "extra"}
    hints = {n: hint | None if n in config.derived else hint for n, hint in hints.items()}
    hints |= {alias: hints[name] for alias, name in config.aliases.items()}
    hints |= {"label2id": Mapping[str, int] | None}
    others = {name: type_of_property(config, name) for name in config.names() - hints.keys()}
    return hints | others


def type_of_property(cls: type, name: str) -> Any:
    """Returns the type of a property; Any where there is none of the name."""
    getter = getattr(getattr(cls, name, None), "fget", None)
    return typing.get_type_hints(getter).get("return", Any) if getter else Any


def spelled(hint: Any) -> Iterable[str]:
    """Lists the types, as source, that a caller may give for a field that is stored as `hint`."""
    kind, inside = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return [text for option in inside for text in spelled(option)]
    if isinstance(kind, type) and issubclass(kind, Config):
        return ["Config", "Mapping[str, Json]"]
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return [f"Mapping[Json, {' | '.join(in_order(spelled(inside[-1]))) if inside else 'Json'}]"]
    if kind is tuple:
        return [f"Sequence[{' | '.join(in_order(spelled(inside[0]))) if inside else 'Json'}]"]
    if kind is types.NoneType:
        return ["None"]
    return [kind.__name__ if kind in (bool, int, float, str) else "Json"]


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts the parts of a union: a Json is all of it, None comes last."""
    names = {*names}
    return ["Json"] if "Json" in names else sorted(names, key=lambda name: (name == "None", name))


def formatted(text: str, name: str) -> str:
    """Returns source as ruff sorts and formats it."""
    for words in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        ruff = [Path(sys.executable).with_name("ruff"), *words, "--stdin-filename", name, "-"]
        run = subprocess.run(ruff, input=text, capture_output=True, text=True, cwd=ROOT, check=True)
        text = run.stdout
    return text


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [[*head], *([*row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def between(text: str, content: str) -> str:
    """Returns a page with `content` between its two marks."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    assert len(pattern.findall(text)) == 1, "a page needs both marks once"
    return pattern.sub(lambda _: f"{BEGIN}\n{content}\n{END}", text)


def readme(page: str) -> str:
    """Fills in the README's tables: families and their classes; what each kind of class is for."""
    rows = [
        [family.title, f"`{model_type}`", classes_of(family)]
        for model_type, family in FAMILIES.items()
    ]
    families = table(["family", "`model_type`", "classes"], rows)
    served: dict[tuple[str, str], list[str]] = {}
    used = {ending_of(name) for family in FAMILIES.values() for name in family.models}
    for end, head in HEADS.items():
        if end in used:
            served.setdefault((head.task, ", ".join(f"`{a}`" for a in head.serves)), []).append(end)
    heads = table(
        ["classes", "what for, by its name on the Hub", "opened by"],
        [[", ".join(f"`{end}`" for end in ends), *key] for key, ends in served.items()],
    )
    return between(page, f"{families}\n\n{heads}")


def classes_of(family: Family) -> str:
    """Writes the classes of a family short: what they begin with, and the ends."""
    text = f"`{family.prefix}`: {', '.join(f'`{head}`' for head in family.heads)}"
    others = [*family.classes, *(f"{n} (= {there})" for n, there in family.other_names.items())]
    others += [f"{name} for {auto}" for auto, name in family.serves.items()]
    return "; ".join([text, *others])


def models_page(page: str) -> str:
    """Fills in the table of docs/models.md: every class by its public name."""
    served = [a for a in AUTO_CLASSES if any(f.serving(a) for f in FAMILIES.values())]
    rows = [
        ["any checkpoint", listing(["AutoConfig", *served])],
        [
            "of tasks that no family here has yet (for classes of your own)",
            listing(a for a in AUTO_CLASSES if a not in served),
        ],
    ]
    for family in FAMILIES.values():
        others = [f"`fm.{n}` (= `fm.{there}`)" for n, there in family.other_names.items()]
        rows.append([family.title, ", ".join([listing([family.config, *family.models]), *others])])
    return between(page, table(["family", "names"], rows))


def listing(names: Iterable[str]) -> str:
    return ", ".join(f"`fm.{name}`" for name in names)


FILES: dict[str, Callable[[str], str]] = {
    "flaxmodels/__init__.pyi": stub,
    "flaxmodels/checkpoints/config_fields.py": config_fields,
    "README.md": readme,
    "docs/models.md": models_page,
    "docs/coverage.md": _coverage.page,
}
"""File -> what it should hold, given what it holds."""


if __name__ == "__main__":
    main()
