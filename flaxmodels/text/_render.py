"""Renders chat templates: a program that `rendering.py` runs in a process of its own.

    python -I -S _render.py SECONDS SYS_PATH_ENTRY...

Reads a line of JSON for each chat, {"template", "values"}, and answers it with a line: {"text"}, or
{"error", "line"}. SECONDS of CPU time are what a chat may take. A template is code of a stranger:
it runs in Jinja's sandbox, sees nothing but values of JSON, and this process cannot write files,
open more of them, or use more than its share of memory and time. Who exceeds the time is killed by
the kernel.
"""

import datetime
import functools
import json
import resource
import signal
import sys

MOST_MEMORY = 512 << 20
MOST_CHARACTERS = 16 << 20  # of a rendered chat

if __name__ == "__main__":
    sys.path[:] = sys.argv[2:]

import jinja2  # noqa: E402
import jinja2.constants  # noqa: E402  for lipsum
import jinja2.ext  # noqa: E402
import jinja2.nodes  # noqa: E402
import jinja2.sandbox  # noqa: E402


def limited() -> None:
    """Takes from this process what no template needs, once Python has loaded what it loads late:
    the time zone, the codec of literals, and what rewrites the traceback of an error."""
    late = "{{ strftime_now('') }}{{ [] | pprint }}{{ raise_exception('no error') }}"
    answer({"template": late, "values": {}})
    for limit, value in (
        (resource.RLIMIT_AS, MOST_MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        most = resource.getrlimit(limit)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, value))


class Generation(jinja2.ext.Extension):
    """Adds the block `generation`, which marks what an assistant says; it is rendered as it is."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def raise_exception(message):
    raise jinja2.TemplateError(str(message))


def strftime_now(format):
    return datetime.datetime.now().strftime(format)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """As Jinja's own, but for a model: HTML is not escaped."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def no_other(name):
    raise jinja2.TemplateError(f"asks for the template {name!r}: there is none beside it")


@functools.lru_cache(maxsize=32)
def compiled(template: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols],
        loader=jinja2.FunctionLoader(no_other),
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(template)


def rendered(template: str, values: dict) -> str:
    pieces, length = [], 0
    for piece in compiled(template).generate(values):
        pieces.append(piece)
        length += len(piece)
        if length > MOST_CHARACTERS:
            raise jinja2.TemplateError(f"makes a text of more than {MOST_CHARACTERS} characters")
    return "".join(pieces)


def line_of(error: BaseException) -> int | None:
    """Finds the line of the template that an error is about."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:  # the innermost: a line of a macro rather than that of its call
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def answer(request: dict) -> dict:
    try:
        return {"text": rendered(request["template"], request["values"])}
    except MemoryError as caught:
        error, text = caught, f"needs more than {MOST_MEMORY >> 20} MiB of memory"
    except RecursionError as caught:
        error, text = caught, "calls itself too deeply"
    except jinja2.TemplateError as caught:
        error, text = caught, caught.message or type(caught).__name__
    except Exception as caught:  # whatever an operation of a template raises
        error, text = caught, f"{type(caught).__name__}: {caught}"
    return {"error": str(text)[:4000], "line": line_of(error)}


def main(seconds: float) -> None:
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reply = json.dumps(answer(json.loads(line)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(reply + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    limited()
    main(float(sys.argv[1]))
