"""Executes one notebook with papermill.

It reads one JSON object from standard input, and writes events as JSON objects, one per line, to standard output.
Nothing else can write to that standard output.
"""

import html
import json
import keyword
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from urllib.parse import quote

# Upper bound on the printed text of one cell in the executed notebook, in characters.
PRINTED = 256 * 1024
# Upper bound on the printed text in one event, in characters, so that an event stays below 64 KiB.
SAID = 8_000
# Capacity of the token bucket for printed text, and its rate per second, in characters. A log keeps no more anyway.
SAID_AT_ONCE = 256 * 1024
SAID_A_SECOND = 32 * 1024
# Length of the shortest secret that is masked, in characters.
SHORTEST_SECRET = 4
# Upper bound on the lines of secrets that are masked by themselves, the longest first.
SECRET_LINES = 1_000
# Length of the beginning of a secret that is searched for at the end of a text, in characters.
HEAD = 64
# Upper bounds on the start of a kernel, and on the wait for its last output, in seconds.
START_PATIENCE = 120
OUTPUT_PATIENCE = 120

# Characters that URL encoders leave unencoded, besides letters, digits and `_.-~`. In order: none; slashes of a path;
# JavaScript in a part and in a whole URL; browsers in a query.
UNENCODED = ["", "/", "!*'()", "!*'();/?:@&=+$,#", "!$%&'()*+,/:;=?@[\\]^`{|}", "!$%&()*+,/:;=?@[\\]^`{|}"]

MASK = "***"
# Name of the variable with the undeclared parameters.
REST = "webhook_parameters"
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Failure(Exception):
    def __init__(self, message, may_pass):
        super().__init__(message)
        self.may_pass = may_pass


class Speaker:
    """Reserves standard output and standard input for the runner."""

    def __init__(self):
        self.output = os.dup(1)
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)

    def say(self, **event):
        line = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        while line:
            line = line[os.write(self.output, line) :]


class Masker:
    """Replaces secret values in all their forms. Text is masked before it is cut, since half a secret is not found."""

    def __init__(self, values):
        texts = set().union(*map(leaves, values))
        lines = {line.strip() for text in texts for line in text.strip().splitlines()}
        lines = sorted(filter(is_long_enough, lines), key=len, reverse=True)[:SECRET_LINES]
        texts = {*texts, *(text.strip() for text in texts), *lines}
        forms = {form for text in filter(is_long_enough, texts) for form in forms_of(text)}
        self.forms = sorted(forms, key=len, reverse=True)

    def mask(self, text):
        for form in self.forms:
            text = text.replace(form, MASK)
        return text

    def open(self, text):
        """Returns the offset of a possible beginning of a secret, or the end of the text."""
        start = len(text)
        for form in self.forms:
            head, first = form[:HEAD], max(0, len(text) - len(form) + 1)
            place = text.find(head, first)
            if place < 0:
                place = text.find(head[0], max(first, len(text) - len(head) + 1))
                while place >= 0 and not head.startswith(text[place:]):
                    place = text.find(head[0], place + 1)
            if 0 <= place < start:
                start = place
        return start


class MaskedStream:
    """Masks a text in pieces. The possible beginning of a secret is held back until it is decided."""

    def __init__(self, masker):
        self.masker, self.held = masker, ""

    def take(self, text):
        text = self.masker.mask(self.held + text)
        start = self.masker.open(text)
        text, self.held = text[:start], text[start:]
        return text

    def finish(self):
        """Returns the rest. An apparent beginning of a secret is masked, since its end may be printed elsewhere."""
        rest, self.held = self.held, ""
        return MASK if is_long_enough(rest) else rest


def is_long_enough(text):
    return len(text) >= SHORTEST_SECRET


def leaves(value):
    """Yields the texts and numbers in a value."""
    if isinstance(value, dict):
        return set().union(*map(leaves, value.values()))
    if isinstance(value, list):
        return set().union(*map(leaves, value))
    if isinstance(value, bool) or value is None:
        return set()
    return {str(value)}


def forms_of(text):
    """Yields a text as it is, and in the forms of JSON, Python, HTML, URLs and form bodies."""
    plain, in_ascii = json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]
    escaped = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    yield from (text, plain, in_ascii, plain.replace("/", "\\/"), in_ascii.replace("/", "\\/"))
    yield re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), in_ascii)
    yield from (repr(text)[1:-1], escaped, escaped.replace('"', '\\"'))
    yield from (html.escape(text), html.escape(text, quote=False))
    encoded = [quote(text, safe, errors="surrogatepass") for safe in UNENCODED]
    encoded += [quote(json_in_url, "", errors="surrogatepass") for json_in_url in (plain, in_ascii)]
    form = quote(text, "*", errors="surrogatepass").replace("%20", "+")
    encoded += [encoded[0].replace("%20", "+"), form, form.replace("~", "%7E")]
    yield from encoded
    yield from (re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in encoded)


class PrintedLines:
    """Reports the printed text of a cell, in whole lines if possible.

    If it prints too fast, a note replaces the middle of the text, and the end is reported."""

    def __init__(self, speaker):
        self.speaker = speaker
        self.partial = {}
        self.allowed, self.since = SAID_AT_ONCE, time.monotonic()
        self.left_out, self.last = 0, None

    def take(self, stream, text):
        text = self.partial.pop(stream, "") + text
        whole, end, rest = text.rpartition("\n")
        if end:
            self.offer(stream, whole)
        # A progress bar returns to the start of its line repeatedly.
        rest = rest.rpartition("\r")[2]
        if len(rest) > SAID:
            self.offer(stream, rest)
        elif rest:
            self.partial[stream] = rest

    def finish(self):
        for stream, text in self.partial.items():
            self.offer(stream, text)
        self.partial = {}
        self.catch_up()

    def offer(self, stream, text):
        now = time.monotonic()
        self.allowed = min(SAID_AT_ONCE, self.allowed + SAID_A_SECOND * (now - self.since))
        self.since = now
        if len(text) <= self.allowed:
            self.catch_up()
            self.allowed -= len(text)
            self.say(stream, text)
        else:
            self.left_out += len(text)
            self.last = (stream, text[-SAID:])

    def catch_up(self):
        if self.last is not None:
            stream, text = self.last
            # The rest of the line that was cut is left out too.
            tail = text.partition("\n")[2] or text
            self.speaker.say(stream="note", lines=[f"[{self.left_out - len(tail)} characters are left out here]"])
            self.left_out, self.last = 0, None
            self.say(stream, tail)

    def say(self, stream, text):
        lines, length = [], 0
        for line in text.split("\n"):
            line = line.rstrip("\r").rpartition("\r")[2]
            for start in range(0, max(len(line), 1), SAID):
                piece = line[start : start + SAID]
                if lines and length + len(piece) > SAID:
                    self.speaker.say(stream=stream, lines=lines)
                    lines, length = [], 0
                lines.append(piece)
                length += len(piece) + 1
        if lines:
            self.speaker.say(stream=stream, lines=lines)


class Place:
    """Number of the author's code cell that is being executed. The injected cell does not count."""

    def __init__(self):
        self.numbers, self.count, self.number = {}, 0, None

    def begin(self, notebook):
        for place, cell in enumerate(notebook.cells):
            if cell.cell_type == "code" and not is_injected(cell):
                self.count += 1
                self.numbers[place] = self.count

    def move(self, place):
        self.number = self.numbers.get(place)

    def __str__(self):
        return f"cell {self.number} of {self.count}" if self.number else "the injected parameters"


class Room:
    """Remaining output that the notebook may keep."""

    def __init__(self, characters):
        self.left = characters

    def take(self, wanted):
        taken = max(0, min(wanted, self.left))
        self.left -= taken
        return taken


def keep_kernels_in_our_group():
    """Starts kernels in our process group. By default they start a session, which a kill of our group does not reach."""
    from jupyter_client.provisioning import LocalProvisioner

    async def launch_kernel(self, cmd, **options):
        environment = dict(options.get("env") or os.environ, JPY_PARENT_PID=str(os.getpid()))
        folder = options.get("cwd") or os.getcwd()
        # Its printed text arrives as messages; its own streams would repeat it.
        nothing = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.DEVNULL)
        self.process = subprocess.Popen(cmd, env=environment, cwd=folder, **nothing)
        self.pid, self.cwd = self.process.pid, folder
        # Without its own group, only the kernel itself must be signalled, not our group.
        self.pgid = None
        return self.connection_info

    LocalProvisioner.launch_kernel = launch_kernel


def register_engine(speaker, place, limit, masker, kept):
    """Registers papermill's engine with our output, progress and limits, and returns its name.

    The notebook is put into `kept`, even if it fails."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    printed = PrintedLines(speaker)
    room = Room(limit)
    streams = {name: MaskedStream(masker) for name in ("stdout", "stderr")}

    class Client(PapermillNotebookClient):
        def papermill_execute_cells(self):
            place.begin(self.nb)
            start = self.nb_man.cell_start

            def cell_start(cell, cell_index=None, **options):
                self.finish_printing()
                self.left, self.left_out, self.outs = PRINTED, {}, None
                place.move(cell_index)
                if place.number:
                    speaker.say(progress=(place.number - 1) / (place.count + 1), message=str(place))
                return start(cell, cell_index, **options)

            self.nb_man.cell_start = cell_start
            self.outs = None
            try:
                super().papermill_execute_cells()
            finally:
                self.finish_printing()

        def finish_printing(self):
            for name, stream in streams.items():
                rest = stream.finish()
                if rest:
                    self.print(self.outs, name, rest)
            printed.finish()

        def print(self, outs, name, text):
            printed.take(name, text)
            self.keep_printed(outs, name, text)

        def output(self, outs, msg, display_id, cell_index):
            content = msg["content"]
            if msg["msg_type"] == "stream":
                self.outs = outs
                self.print(outs, content["name"], streams[content["name"]].take(content["text"]))
                return None
            if msg["msg_type"] == "error":
                content["traceback"] = [cut(visible(line, masker)) for line in content.get("traceback", [])[-50:]]
                content["evalue"] = cut(visible(content.get("evalue", ""), masker))
                printed.take("stderr", f"{place} failed:\n")
                for line in content["traceback"]:
                    printed.take("stderr", COLOURS.sub("", line) + "\n")
            elif not fits(content, room):
                note(outs, "[an output is left out: the notebook has too many]\n")
                return None
            return super().output(outs, msg, display_id, cell_index)

        def keep_printed(self, outs, name, text):
            kept = room.take(min(len(text), self.left))
            self.left -= kept
            if kept:
                append_stream(outs, name, text[:kept])
            if kept < len(text):
                self.left_out[name] = self.left_out.get(name, 0) + len(text) - kept
                note(outs, f"[output is cut here: {self.left_out[name]} more characters]\n")

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            kept.append(nb_man.nb)
            Client(
                nb_man,
                kernel_name=kernel_name,
                timeout=None,
                startup_timeout=START_PATIENCE,
                iopub_timeout=OUTPUT_PATIENCE,
            ).execute()

    papermill_engines.register("webhook", Engine)
    return "webhook"


def is_injected(cell):
    return "injected-parameters" in cell.metadata.get("tags", [])


def append_stream(outs, name, text):
    from nbformat.v4 import new_output

    last = outs[-1] if outs else None
    if last is not None and last.output_type == "stream" and last.name == name:
        last.text += text
    else:
        outs.append(new_output("stream", name=name, text=text))


def note(outs, text):
    """Sets a note as the last output, in place of the previous note."""
    from nbformat.v4 import new_output

    if outs and outs[-1].get("metadata", {}).get("webhook_note"):
        outs.pop()
    output = new_output("display_data", data={"text/plain": text.rstrip("\n")})
    output.metadata["webhook_note"] = True
    outs.append(output)


def fits(content, room):
    size = len(json.dumps(content.get("data", {})))
    return size <= room.left and room.take(size) == size


def visible(text, masker):
    """Returns a text with secrets masked. Colours of a traceback may interrupt a secret, so they are removed if need be."""
    text, plain = masker.mask(text), COLOURS.sub("", text)
    masked_plain = masker.mask(plain)
    return text if masked_plain == COLOURS.sub("", text) else masked_plain


def cut(text):
    return text if len(text) <= SAID else text[:SAID] + "…"


def masked(value, masker):
    if isinstance(value, str):
        return masker.mask(value)
    if isinstance(value, dict):
        return type(value)({name: masked(item, masker) for name, item in value.items()})
    if isinstance(value, list):
        return [masked(item, masker) for item in value]
    return value


def without_secrets(notebook, request, masker):
    """Returns the notebook to keep: the injected cell is rewritten, and secret values are masked everywhere."""
    from papermill.translators import translate_parameters

    shown = {name: MASK if name in request["secret"] else value for name, value in injected(request).items()}
    notebook.metadata.papermill.parameters = shown
    notebook.metadata.papermill.input_path = os.path.basename(request["notebook"])
    for cell in filter(is_injected, notebook.cells):
        cell.source = translate_parameters(request["kernel"], "python", shown, "Parameters")
    return masked(notebook, masker) if masker.forms else notebook


def injected(request):
    """Returns the variables to set: declared parameters, and all others in one dictionary."""
    return {**request["parameters"], REST: request["rest"]}


def execute(request, speaker, place, masker, kept):
    for name in request["parameters"]:
        # Papermill writes a name into the code as it is, so any other text would be foreign code.
        if not name.isidentifier() or keyword.iskeyword(name):
            raise Failure(f"the parameter {name!r} cannot be given to a notebook: it is not a Python name", False)

    import nbformat
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    if not os.path.isfile(request["notebook"]) and os.path.exists(request["notebook"]):
        # Reading a pipe could wait forever.
        raise Failure("the notebook cannot be read: it is no regular file", False)
    try:
        nbformat.read(request["notebook"], as_version=4)
    except Exception as error:
        # It was valid when the server started, so it has been changed since.
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise Failure(f"the notebook cannot be read: {reason}", False)

    keep_kernels_in_our_group()
    # Connection files are in the attempt's folder, which is removed even if this process is killed.
    tempfile.tempdir = request["folder"]
    try:
        execute_notebook(
            # Papermill formats its path with the parameters.
            request["notebook"].replace("{", "{{").replace("}", "}}"),
            None,
            parameters=injected(request),
            engine_name=register_engine(speaker, place, request["output_limit"], masker, kept),
            kernel_name=request["kernel"],
            language="python",
            progress_bar=False,
            cwd=os.path.dirname(request["notebook"]),
        )
    except PapermillExecutionError as error:
        raise Failure(f"{place}: {error.ename}: {COLOURS.sub('', error.evalue)}", True)
    except NoSuchKernel as error:
        raise Failure(f"there is no Jupyter kernel {error.name}", False)
    except DeadKernelError:
        raise Failure("the kernel died: it may have run out of memory, or a library crashed", True)
    except (RuntimeError, TimeoutError, CellControlSignal) as error:
        raise Failure(f"the kernel does not answer: {error}", True)


def write(notebook, request):
    import nbformat
    from nbconvert import HTMLExporter

    write_file(request, "executed", nbformat.writes(notebook))
    resources = {"metadata": {"name": request["title"]}}
    page, _ = HTMLExporter().from_notebook_node(notebook, resources=resources)
    write_file(request, "page", page)


def write_file(request, name, text):
    """Writes a new file. An existing one, left by the notebook, may be a link to another file."""
    path = os.path.join(request["folder"], request[name])
    if os.path.lexists(path):
        os.unlink(path)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(file, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)


def write_failed(notebook, request, masker):
    """Keeps a failed notebook if possible. The reason of the failure is reported in any case."""
    try:
        write(without_secrets(notebook, request, masker), request)
    except Exception as error:
        print(f"the failed notebook cannot be kept: {masker.mask(str(error))}", file=sys.stderr)


def main():
    # Programs that a cell starts on their own terminal end by SIGHUP. A server under nohup ignores it, and so would all its
    # children.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    request = json.load(sys.stdin)
    speaker, place, kept = Speaker(), Place(), []
    masker = Masker(request["secret"].values())
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    try:
        execute(request, speaker, place, masker, kept)
        speaker.say(progress=place.count / (place.count + 1), message="laying out")
        write(without_secrets(kept[0], request, masker), request)
        speaker.say(finished=True)
    except ImportError as error:
        message = f"a Python package is missing: {error}"
        speaker.say(failed=cut(masker.mask(message)), may_pass=False, lacks_package=True)
    except Failure as error:
        for notebook in kept:
            write_failed(notebook, request, masker)
        speaker.say(failed=cut(masker.mask(str(error))), may_pass=error.may_pass)


main()
