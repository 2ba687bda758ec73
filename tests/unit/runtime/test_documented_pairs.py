"""The pairs of request and answer that docs/runtime.md shows, asked of a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import onnx_models
from runtime_kit.process import Server

PAGE = Path(__file__).parents[3] / "docs/runtime.md"
COLUMNS = ("a", "b", "c", "d")


def section(heading: str) -> str:
    return PAGE.read_text().split(f"\n### {heading}\n")[1].split("\n### ")[0]


def cells(heading: str) -> Iterator[list[str]]:
    for line in section(heading).splitlines():
        if line.startswith("| ") and not line.startswith("| request") and "| route |" not in line:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def of_predict() -> list[tuple[str, str, str]]:
    """Path, body and answer of each row; what follows the code is a remark."""
    return [("/predict", code(asked)[0], code(answer)[0]) for asked, answer in cells("/predict")]


def of_the_others() -> list[tuple[str, str, str]]:
    pairs = list[tuple[str, str, str]]()
    path = ""
    for route, asked, answer in cells("TensorFlow Serving and MLflow"):
        path = (code(route) or [path])[0]
        bodies = [text for text in code(asked) if text.startswith("{")]
        pairs += [(path, body, code(answer)[0]) for body in bodies]
    return pairs


# How the page abbreviates.
WRITTEN_OUT = {
    '{"instances": …}': '{"instances": [[1, 2, 3, 4]]}',
    '{"inputs": …}': '{"inputs": [[1, 2, 3, 4]]}',
    '"columns": [...], "data": [[...]]': '"columns": ["a", "b", "c", "d"], "data": [[1, 2, 3, 4]]',
    "[{...}]": '[{"a": 1, "b": 2, "c": 3, "d": 4}]',
}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The model of the page, which names its columns."""
    content = onnx_models.linear(columns=COLUMNS)
    with Server(tmp_path_factory.mktemp("named"), content) as server:
        yield server.start().wait_until_ready()


def test_the_page_shows_every_form() -> None:
    assert len(of_predict()) == 7
    assert len(of_the_others()) == 8


@pytest.mark.parametrize(("path", "body", "answer"), [*of_predict(), *of_the_others()])
def test_a_pair_of_the_page_is_what_a_server_does(
    named: Server, path: str, body: str, answer: str
) -> None:
    for short, long in WRITTEN_OUT.items():
        body = body.replace(short, long)
    reply = named.post(path, json.loads(body))
    wanted: Any = json.loads(answer)
    assert (reply.status, reply.json) == (200, wanted), reply.body
