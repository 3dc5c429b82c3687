"""Prints the declared parameters of a notebook as one JSON object. Nothing of the notebook is executed."""

import ast
import io
import json
import math
import os
import re
import sys
import tokenize

PACKAGES = ["papermill", "ipykernel", "nbconvert"]

TYPES = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "date": "date",
    "datetime": "datetime",
    "list": "list",
    "tuple": "list",
    "set": "list",
    "sequence": "list",
    "iterable": "list",
    "dict": "json",
    "mapping": "json",
    "any": "json",
    "object": "json",
}

# Name of the variable with the undeclared parameters.
REST = "webhook_parameters"

ASSIGNED_BY_IPYTHON = re.compile(r"(\s*[\w.,\s]+=\s*)[%!]")
ASKED_FOR_HELP = re.compile(r"\s*[%\w.*\[\]'\"]+\?{1,2}\s*(#.*)?")

TYPE_COMMENT = re.compile(r"type:\s*(\S+)\s*(.*)")


class Unusable(Exception):
    def __init__(self, kind, **details):
        super().__init__(kind)
        self.answer = {"problem": {"kind": kind, **details}}


def describe(path, kernel):
    missing = [name for name in PACKAGES if not is_installed(name)]
    if missing:
        raise Unusable("packages", missing=missing, is_virtual=sys.prefix != sys.base_prefix)
    notebook = load(path)
    kernel = kernel or named(notebook, "kernelspec", "name") or "python3"
    check_kernel(kernel)
    cell = parameters_cell(notebook)
    parameters = [] if cell is None else declared(source_of(cell))
    return {"kernel": kernel, "parameters": parameters}


def is_installed(package):
    from importlib.util import find_spec

    return find_spec(package) is not None


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            notebook = json.load(file)
    except OSError as error:
        raise Unusable("notebook", message=f"it cannot be read: {error.strerror}")
    except ValueError as error:
        raise Unusable("notebook", message=f"it is not JSON: {error}")
    except RecursionError:
        raise Unusable("notebook", message="it is not a notebook: its JSON is nested too deeply")
    is_notebook = isinstance(notebook, dict) and isinstance(notebook.get("cells"), list)
    if not is_notebook or not all(isinstance(cell, dict) for cell in notebook["cells"]):
        raise Unusable("notebook", message="it is not a Jupyter notebook of format 4: it has no list of cells")
    if notebook.get("nbformat") != 4 or not isinstance(notebook.get("metadata"), dict):
        raise Unusable("notebook", message="it is not a Jupyter notebook of format 4: its format or its metadata is odd")
    language = named(notebook, "kernelspec", "language") or named(notebook, "language_info", "name")
    if language not in (None, "python"):
        raise Unusable("notebook", message=f"its language is {language}; only Python notebooks are executed")
    return notebook


def named(notebook, section, name):
    """Returns a text of the metadata, or nothing if it has an unexpected type."""
    found = notebook.get("metadata")
    for step in (section, name):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def check_kernel(name):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        raise Unusable("kernel", name=name)


def parameters_cell(notebook):
    for cell in notebook["cells"]:
        metadata = cell.get("metadata")
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        if cell.get("cell_type") == "code" and isinstance(tags, list) and "parameters" in tags:
            return cell
    return None


def source_of(cell):
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(map(str, source))


def declared(source):
    """Returns the parameters of a cell: each assignment to one plain name, the last one of each name.

    Python's parser returns names in the form in which it compares them (NFKC)."""
    source, statements = statements_of(source)
    comments = comments_by_line(source)
    found = {}
    for statement in statements:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            target, annotation = statement.target, statement.annotation
        elif isinstance(statement, ast.Assign) and is_plain(statement.targets):
            target, annotation = statement.targets[0], None
        else:
            continue
        comment = comments.get(statement.end_lineno, "")
        found[target.id] = parameter(target.id, annotation, statement.value, comment)
    # The runner sets this variable to the undeclared parameters of a run.
    found.pop(REST, None)
    return list(found.values())


def statements_of(source):
    """Returns the source of a cell without lines for IPython, and its statements.

    Lines such as `%matplotlib inline` are removed, and of `files = !ls` the name is kept. Only a line with a syntax error
    is checked for that, so a text that spans lines stays whole."""
    lines = source.split("\n")
    while True:
        source = "\n".join(lines)
        try:
            return source, ast.parse(source).body
        except SyntaxError as error:
            place = (error.lineno or 0) - 1
            line = lines[place] if 0 <= place < len(lines) else ""
            passed_over = without_ipython(line)
            if passed_over is None:
                message = f"its parameters cell is not Python: line {error.lineno}: {error.msg}"
                raise Unusable("notebook", message=message)
            lines[place] = passed_over


def without_ipython(line):
    """Returns the Python equivalent of a line for IPython, or None for another line."""
    assigned = ASSIGNED_BY_IPYTHON.match(line)
    if assigned:
        return assigned.group(1) + "NotImplemented"
    if line.lstrip().startswith(("%", "!", "?")) or ASKED_FOR_HELP.fullmatch(line):
        return line[: len(line) - len(line.lstrip())] + "pass"
    return None


def is_plain(targets):
    return len(targets) == 1 and isinstance(targets[0], ast.Name)


def comments_by_line(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT
    }


def parameter(name, annotation, value, comment):
    typed = TYPE_COMMENT.match(comment)
    if typed:
        comment = typed.group(2).lstrip("# ")
        annotation = annotation or parsed(typed.group(1))
    default = literal(value)
    kind, choices = annotated(annotation) if annotation is not None else (None, [])
    return {
        "name": name,
        "type": kind or type_of(value, default),
        "choices": choices,
        "default": default,
        "description": comment or None,
    }


def parsed(text):
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def literal(value):
    """Returns the literal if JSON can hold it, or None. A literal is parsed, never evaluated."""
    try:
        return None if value is None else as_json(ast.literal_eval(value))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def is_literal(value):
    """Returns whether a value is a literal, even one that JSON cannot hold, such as a set or float("nan")."""
    if isinstance(value, ast.Call) and last_name(value.func) in ("float", "set", "frozenset", "dict"):
        return all(map(is_literal, value.args)) and not value.keywords
    try:
        ast.literal_eval(value)
        return True
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False


def as_json(value):
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: as_json(item) for name, item in value.items()}
    raise ValueError("JSON cannot hold it")


def type_of(value, default):
    """Returns the type of a value without annotation: that of its literal.

    A literal without a JSON type gives json, and a computed value gives text."""
    for python, kind in [
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "text"),
        (list, "list"),
        (dict, "json"),
    ]:
        if isinstance(default, python):
            return kind
    return "json" if value is not None and is_literal(value) else "text"


def annotated(node):
    """Returns the type of an annotation, and its choices. An unknown annotation has no type."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = parsed(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return either([node.left, node.right])
    if isinstance(node, ast.Subscript):
        outer = last_name(node.value).lower()
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer in ("optional", "final", "annotated"):
            return annotated(inner[0])
        if outer == "union":
            return either(inner)
        if outer == "literal":
            choices = [item.value for item in inner if isinstance(item, ast.Constant)]
            is_choice = len(choices) == len(inner) and all(isinstance(item, str) for item in choices)
            return ("choice", choices) if is_choice else ("json", [])
        return TYPES.get(outer), []
    return TYPES.get(last_name(node).lower()), []


def either(nodes):
    """Returns the one alternative that is not None. Several of them give any JSON."""
    is_none = lambda node: isinstance(node, ast.Constant) and node.value is None
    others = [node for node in nodes if not is_none(node)]
    return annotated(others[0]) if len(others) == 1 else ("json", [])


def last_name(node):
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def main():
    request = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        answer = describe(request["path"], request["kernel"])
    except Unusable as error:
        answer = error.answer
    json.dump(answer, answers)
    answers.close()


main()
