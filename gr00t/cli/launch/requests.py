"""The command lines of the scripts at the top of the repository. Standard library only."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gr00t.cli.errors import UsageError
from gr00t.eval.arms.published import PUBLISHED
from gr00t.libero.tasks.perturbations import split_suite
from gr00t.libero.tasks.suites import LiberoError, find_suite
from gr00t.spelling import did_you_mean

DEFAULT_PORT = 5555
# Other projects' harnesses, by their group of packages and their wire.
HARNESSES = ("vla-eval",)
# With their values they go to the server.
_SERVER_OPTIONS = ("--tokenizer", "--device", "--dtype", "--seed", "--prompt-style")


@dataclass(frozen=True)
class ServeRequest:
    """`run_inference_server.sh`: serve the policy of a suite, as the exported settings say."""

    suite: str
    model: str
    options: Sequence[str]
    groups: Sequence[str] = ("core",)


@dataclass(frozen=True)
class EvaluateRequest:
    """`run_libero_eval.sh`: evaluate the policy of a running server on a suite."""

    suite: str
    options: Sequence[str]
    groups: Sequence[str] = ("core", "libero")


@dataclass(frozen=True)
class DryRunRequest:
    """`test_duquant_dryrun.sh`: list the layers; of the built-in architecture where no model is given."""

    model: str
    groups: Sequence[str] = ("core",)


@dataclass
class QuantizedRequest:
    """`run_libero_quant_w4a8.sh`: serve or evaluate at W4A8, or the demo.

    Attributes:
        suite: By its full name; empty: the demo.
        model: Folder or hub id; empty: the published one.
        port: None where none was given.
        assumes_yes: Whether to go on without asking.
        evaluates: Whether to evaluate instead of only serving.
        server_options: For the server.
        evaluation: Options for the evaluation.
        harness: Whose harness evaluates; empty: this project's own runner, if anything.
    """

    suite: str = ""
    model: str = ""
    port: int | None = None
    assumes_yes: bool = False
    evaluates: bool = False
    server_options: list[str] = field(default_factory=list)
    evaluation: Sequence[str] = ()
    harness: str = ""

    @property
    def is_demo(self) -> bool:
        """Whether everything is to be shown offline, with the policy of this repository."""
        return not self.suite

    @property
    def groups(self) -> Sequence[str]:
        """What has to be installed."""
        if self.harness:
            return ("core", "libero", "websocket", self.harness)
        return ("core", "libero") if self.evaluates else ("core",)


Request = ServeRequest | EvaluateRequest | DryRunRequest | QuantizedRequest


def read_request(script: str, *arguments: str) -> Request:
    """Read the command line of a script.

    Raises:
        UsageError: what it asks for does not exist, or cannot be now.
    """
    readers: dict[str, Callable[[Sequence[str]], Request]] = {
        "run_inference_server.sh": _serve,
        "run_libero_eval.sh": lambda words: EvaluateRequest(find_published(words[0]), words[1:]),
        "test_duquant_dryrun.sh": _dry_run,
        "run_libero_quant_w4a8.sh": _quantized,
    }
    return readers[script](arguments)


def find_published(name: str) -> str:
    """Return the full name of a suite that a published checkpoint plays, from `goal` or `LIBERO_GOAL_SWAP`.

    Raises:
        UsageError: with the nearest name.
    """
    try:
        suite = find_suite(name).name
    except LiberoError:
        suite = "libero_" + name.lower().replace("-", "_").removeprefix("libero_")
    if split_suite(suite)[0] not in PUBLISHED:
        raise UsageError(
            f"unknown suite {name!r}; {did_you_mean(suite, PUBLISHED)}\n  suites: {' '.join(PUBLISHED)}"
        )
    return suite


def check_port(text: str) -> int:
    """Return the number of a port where nobody listens: a foreign server would be taken for ours.

    Raises:
        UsageError: it is none, or somebody listens there.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise UsageError(f"--port {text}: expected a number from 1 to 65535")
    port = int(text)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            other = port + 1 if port < 65535 else DEFAULT_PORT
            raise UsageError(
                f"port {port} is in use by another program\n  choose another one: --port {other}"
            )
    return port


def option_value(option: str, words: Sequence[str]) -> str:
    """Return the value of `OPTION VALUE` or `OPTION=VALUE` among the words, the last one; or nothing."""
    value = ""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word[len(option) + 1 :]
    return value


def _serve(words: Sequence[str]) -> ServeRequest:
    suite, options = find_published(words[0]), list(words[1:])
    model = options.pop(0) if options and options[0] and not options[0].startswith("-") else ""
    return ServeRequest(suite, model, options)


def _dry_run(words: Sequence[str]) -> DryRunRequest:
    if words and words[0].startswith("-"):
        raise UsageError(
            f"unknown option {words[0]!r}\n  usage: ./test_duquant_dryrun.sh [MODEL_PATH_OR_HUB_ID]"
        )
    if len(words) > 1:
        raise UsageError(f"expected one model at most, got {len(words)}: {' '.join(words)}")
    return DryRunRequest(words[0] if words else "")


def _quantized(words: Sequence[str]) -> QuantizedRequest:
    request, port = QuantizedRequest(), ""
    places: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word in ("-y", "--yes"):
            request.assumes_yes = True
        elif word == "--eval":
            request.evaluates = True
        elif word == "--harness" or word.startswith("--harness="):
            request.harness = _harness(word, left)
        elif word == "--port" or word.startswith("--port="):
            port = word.partition("=")[2] if "=" in word else _value(word, left, "a number")
        elif word in _SERVER_OPTIONS:
            request.server_options += [word, _value(word, left, "a value")]
        elif word == "--":
            request.evaluation, left = left, []
        elif word.startswith("-"):
            raise UsageError(f"unknown option {word!r}\n  see ./run_libero_quant_w4a8.sh --help")
        elif len(places) < 2:
            places.append(word)
        else:
            raise UsageError(f"one suite and one model at most, got also {word!r}")
    suite, request.model = [*places, "", ""][:2]
    if port:
        request.port = check_port(port)
    if suite.lower() == "demo":
        request.evaluates = request.assumes_yes = True
        if request.model:
            raise UsageError(
                f"demo has its own model; to serve {request.model} name a suite: {' '.join(PUBLISHED)}"
            )
        return request
    request.suite = find_published(suite or "libero_spatial")
    if request.evaluates and request.harness:
        raise UsageError(f"--eval plays in this project's runner, --harness in {request.harness}: name one")
    plays = request.evaluates or bool(request.harness)
    if request.evaluation and not plays:
        raise UsageError("options after -- are for the evaluation: add --eval")
    if request.port is None and not plays:
        request.port = check_port(str(DEFAULT_PORT))
    return request


def _harness(word: str, left: list[str]) -> str:
    name = word.partition("=")[2] if "=" in word else _value(word, left, "a name")
    if name not in HARNESSES:
        raise UsageError(f"--harness {name}: {did_you_mean(name, HARNESSES)}")
    return name


def _value(option: str, left: list[str], what: str) -> str:
    if not left:
        raise UsageError(f"{option} needs {what}")
    return left.pop(0)
