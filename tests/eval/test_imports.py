"""Oracle: the simulator's process. Its Python may be 3.8, and it has neither torch nor transformers."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys

import pytest

from gr00t.eval import service
from gr00t.serving import client, robot, server
from gr00t.serving.wires import n1_5 as wire
from tests.shell import REPO as ROOT

CLIENT_FILES = [
    "gr00t/__init__.py",
    "gr00t/eval/__init__.py",
    "gr00t/eval/client.py",
    "gr00t/serving/__init__.py",
    "gr00t/serving/sockets/__init__.py",
    "gr00t/serving/wires/__init__.py",
    "gr00t/serving/sockets/address.py",
    "gr00t/serving/wires/foreign.py",
    "gr00t/serving/wires/outline.py",
    "gr00t/serving/wires/places.py",
    "gr00t/serving/sockets/reach.py",
    "gr00t/serving/wires/n1_5.py",
    "gr00t/serving/client.py",
]
THIRD_PARTY = {"numpy", "msgpack", "zmq"}


def test_client_imports_neither_torch_nor_transformers_nor_pydantic() -> None:
    program = (
        "import json, sys, numpy, msgpack, zmq; before = set(sys.modules); import gr00t.eval.client;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    new = json.loads(run.stdout)
    assert sorted(name for name in new if name.startswith("gr00t")) == [
        "gr00t",
        "gr00t.eval",
        "gr00t.eval.client",
        "gr00t.serving",
        "gr00t.serving.client",
        "gr00t.serving.sockets",
        "gr00t.serving.sockets.address",
        "gr00t.serving.sockets.reach",
        "gr00t.serving.wires",
        "gr00t.serving.wires.foreign",
        "gr00t.serving.wires.n1_5",
        "gr00t.serving.wires.outline",
        "gr00t.serving.wires.places",
    ]
    assert not {"torch", "transformers", "pydantic"} & set(new)


def test_service_and_robot_import_no_torch_either() -> None:
    program = "import sys, gr00t.eval.service, gr00t.eval.robot; print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


@pytest.mark.parametrize("path", CLIENT_FILES)
def test_client_file_is_python_3_8(path: str) -> None:
    """Syntax by the parser; `X | Y` and `list[X]` only in annotations, which are not evaluated there."""
    tree = ast.parse((ROOT / path).read_text(), feature_version=(3, 8))
    assert "annotations" in {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    } or not any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
    annotations = set()
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            annotation = getattr(node, field, None)
            if annotation is not None:
                annotations |= {id(inner) for inner in ast.walk(annotation)}
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in {"list", "dict", "tuple", "set", "type"}, f"{path}:{node.lineno}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            assert not names & {"int", "str", "float", "bytes", "None"}, f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"removeprefix", "removesuffix"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", CLIENT_FILES)
def test_client_file_imports_only_the_standard_library_and_three_packages(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names} | {
        node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)
    }
    packages = {name.split(".")[0] for name in top} - set(sys.stdlib_module_names)
    assert packages <= THIRD_PARTY | {"gr00t"}


def test_names_of_n1_5_are_where_its_users_import_them() -> None:
    assert service.ExternalRobotInferenceClient is client.ExternalRobotInferenceClient
    assert service.BaseInferenceClient is client.BaseInferenceClient
    assert service.BaseInferenceServer is server.BaseInferenceServer
    assert service.MsgSerializer is wire.MsgSerializer
    assert issubclass(robot.RobotInferenceServer, service.BaseInferenceServer)
    assert issubclass(robot.RobotInferenceClient, service.BaseInferenceClient)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (service.ExternalRobotInferenceClient, ["host", "port", "timeout_ms", "api_token"]),
        (robot.RobotInferenceClient, ["host", "port", "api_token"]),
        (robot.RobotInferenceServer, ["model", "host", "port", "api_token"]),
        (robot.RobotInferenceServer.start_server, ["policy", "port", "api_token"]),
        (service.BaseInferenceServer, ["host", "port", "api_token"]),
        (service.BaseInferenceServer.register_endpoint, ["self", "name", "handler", "requires_input"]),
        (service.BaseInferenceClient.call_endpoint, ["self", "endpoint", "data", "requires_input"]),
        (service.ExternalRobotInferenceClient.get_action, ["self", "observations"]),
        (service.EndpointHandler, ["handler", "requires_input"]),
    ],
)
def test_first_parameters_are_those_of_n1_5(function: object, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters)[: len(parameters)] == parameters


def test_the_thin_paths_have_all_that_their_modules_told_of_themselves() -> None:
    """Oracle: `__all__` of these modules when they held the code themselves (0.1.0)."""
    told = {
        "gr00t.eval.wire": "BUSY MAX_VALUES STOPPING MsgSerializer PackError WireError build_array decode "
        "pack simplify unpack what_cannot_be_sent",
        "gr00t.eval.robot": "BaseInferenceServer BatchablePolicy ExternalRobotInferenceClient RequestError "
        "RobotInferenceClient RobotInferenceServer ServedPolicy",
        "gr00t.eval.client": "BaseInferenceClient ExternalRobotInferenceClient NoReplyError NoServerError "
        "ServerError",
        "gr00t.eval.http_server": "HTTPInferenceServer create_http_server",
        "gr00t.model.transforms": "GR00TTransform PROMPT_STYLES Tokenizer",
    }
    missing = {
        module: [name for name in names.split() if not hasattr(importlib.import_module(module), name)]
        for module, names in told.items()
    }
    assert not any(missing.values()), missing
