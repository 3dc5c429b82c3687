"""Executes one notebook with papermill.

It reads one JSON object from standard input and writes what happens as JSON objects, one a line, to standard output,
which nothing else can reach.
"""

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

# How much of what one cell prints is kept in the executed notebook, in characters.
PRINTED = 256 * 1024
# How much is said of it at once, in characters, so that a line of ours stays below 64 KiB.
SAID = 8_000
# How much may be said at once, and how much more each second, in characters: a log keeps no more anyway.
SAID_AT_ONCE = 256 * 1024
SAID_A_SECOND = 32 * 1024
# A text shorter than this is not looked for when secrets are masked.
SHORTEST_SECRET = 4
# How long a kernel may take to start, and to hand over its last output, in seconds.
START_PATIENCE = 120
OUTPUT_PATIENCE = 120

MASK = "***"
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Failure(Exception):
    def __init__(self, message, may_pass):
        super().__init__(message)
        self.may_pass = may_pass


class Speaker:
    """Takes standard output and standard input away from everything else."""

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


class PrintedLines:
    """Says what a cell prints, line by line as far as the lines are whole.

    When it prints too fast, what is in between is left out with a note, and the last of it is said."""

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
        # A progress bar goes back to the start of its line again and again.
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
            # What is left of the line that the cut went through is left out as well.
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
    """Which of the author's code cells is being executed; the cell that was injected is none of them."""

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
    """How much output the notebook may still keep."""

    def __init__(self, characters):
        self.left = characters

    def take(self, wanted):
        taken = max(0, min(wanted, self.left))
        self.left -= taken
        return taken


def keep_kernels_in_our_group():
    """Kernels otherwise begin a session of their own, where whoever ends our process group does not reach them."""
    from jupyter_client.provisioning import LocalProvisioner

    async def launch_kernel(self, cmd, **options):
        environment = dict(options.get("env") or os.environ, JPY_PARENT_PID=str(os.getpid()))
        folder = options.get("cwd") or os.getcwd()
        # What it prints comes to us as messages; on its own streams it would come a second time.
        nothing = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.DEVNULL)
        self.process = subprocess.Popen(cmd, env=environment, cwd=folder, **nothing)
        self.pid, self.cwd = self.process.pid, folder
        # Without a group of its own only the kernel itself is signalled, not all of us.
        self.pgid = None
        return self.connection_info

    LocalProvisioner.launch_kernel = launch_kernel


def register_engine(speaker, place, limit):
    """Registers papermill's engine with our output, progress and limits, and answers its name."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    printed = PrintedLines(speaker)
    room = Room(limit)

    class Client(PapermillNotebookClient):
        def papermill_execute_cells(self):
            place.begin(self.nb)
            start = self.nb_man.cell_start

            def cell_start(cell, cell_index=None, **options):
                printed.finish()
                self.left, self.left_out = PRINTED, {}
                place.move(cell_index)
                if place.number:
                    speaker.say(progress=(place.number - 1) / (place.count + 1), message=str(place))
                return start(cell, cell_index, **options)

            self.nb_man.cell_start = cell_start
            try:
                super().papermill_execute_cells()
            finally:
                printed.finish()

        def output(self, outs, msg, display_id, cell_index):
            content = msg["content"]
            if msg["msg_type"] == "stream":
                printed.take(content["name"], content["text"])
                self.keep_printed(outs, content["name"], content["text"])
                return None
            if msg["msg_type"] == "error":
                content["traceback"] = [cut(line) for line in content.get("traceback", [])[-50:]]
                content["evalue"] = cut(content.get("evalue", ""))
                # A failed run keeps no notebook, so the log alone says where the traceback belongs.
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
    """Leaves a note as the last output, in place of the note before it."""
    from nbformat.v4 import new_output

    if outs and outs[-1].get("metadata", {}).get("webhook_note"):
        outs.pop()
    output = new_output("display_data", data={"text/plain": text.rstrip("\n")})
    output.metadata["webhook_note"] = True
    outs.append(output)


def fits(content, room):
    size = len(json.dumps(content.get("data", {})))
    return size <= room.left and room.take(size) == size


def cut(text):
    return text if len(text) <= SAID else text[:SAID] + "…"


def secret_texts(value):
    """The texts in which a secret value may show."""
    if isinstance(value, str):
        written = {value, json.dumps(value)[1:-1], repr(value)[1:-1], *value.splitlines()}
        written.add(value.encode("unicode_escape").decode("ascii").replace('"', '\\"'))
        return written
    if isinstance(value, dict):
        return set().union(*map(secret_texts, value.values()))
    if isinstance(value, list):
        return set().union(*map(secret_texts, value))
    return {str(value)} if isinstance(value, (int, float)) and not isinstance(value, bool) else set()


def masked(value, texts):
    if isinstance(value, str):
        for text in texts:
            value = value.replace(text, MASK)
        return value
    if isinstance(value, dict):
        return type(value)({name: masked(item, texts) for name, item in value.items()})
    if isinstance(value, list):
        return [masked(item, texts) for item in value]
    return value


def without_secrets(notebook, request):
    """What may be kept: the injected cell is written anew, and secret values are masked wherever they show."""
    from papermill.translators import translate_parameters

    secrets = [request["parameters"][name] for name in request["secrets"]]
    shown = {
        name: MASK if name in request["secrets"] else value for name, value in request["parameters"].items()
    }
    notebook.metadata.papermill.parameters = shown
    notebook.metadata.papermill.input_path = os.path.basename(request["notebook"])
    for cell in filter(is_injected, notebook.cells):
        cell.source = translate_parameters(request["kernel"], "python", shown, "Parameters")
    texts = {text for value in secrets for text in secret_texts(value) if len(text) >= SHORTEST_SECRET}
    return masked(notebook, sorted(texts, key=len, reverse=True)) if texts else notebook


def execute(request, speaker, place):
    for name in request["parameters"]:
        # Papermill writes a name into the code as it is, so anything else would be code of the caller's.
        if not name.isidentifier() or keyword.iskeyword(name):
            raise Failure(f"the parameter {name!r} cannot be given to a notebook: it is no Python name", False)

    import nbformat
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    try:
        nbformat.read(request["notebook"], as_version=4)
    except Exception as error:
        # It was fine when the server started, so somebody has changed it since.
        raise Failure(f"the notebook cannot be read: {str(error).partition(chr(10))[0]}", False)

    keep_kernels_in_our_group()
    # Its connection files go where they are removed even when nobody is left to tidy up.
    tempfile.tempdir = request["folder"]
    try:
        return execute_notebook(
            # Papermill formats its path with the parameters.
            request["notebook"].replace("{", "{{").replace("}", "}}"),
            None,
            parameters=request["parameters"],
            engine_name=register_engine(speaker, place, request["output_limit"]),
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

    nbformat.write(notebook, os.path.join(request["folder"], request["executed"]))
    resources = {"metadata": {"name": request["title"]}}
    page, _ = HTMLExporter().from_notebook_node(notebook, resources=resources)
    with open(os.path.join(request["folder"], request["page"]), "w", encoding="utf-8", errors="replace") as file:
        file.write(page)


def main():
    # What a cell starts on a terminal of its own ends by this signal, which a server under nohup ignores, and all its
    # children with it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    request = json.load(sys.stdin)
    speaker = Speaker()
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    try:
        place = Place()
        notebook = execute(request, speaker, place)
        speaker.say(progress=place.count / (place.count + 1), message="laying out")
        write(without_secrets(notebook, request), request)
        speaker.say(finished=True)
    except ImportError as error:
        speaker.say(failed=f"a Python package is missing: {error}", may_pass=False, lacks_package=True)
    except Failure as error:
        speaker.say(failed=cut(str(error)), may_pass=error.may_pass)


main()
