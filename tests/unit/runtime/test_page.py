"""The pages at `/` and `/docs`, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect
from runtime_kit import onnx_models
from runtime_kit.browser import open_page
from runtime_kit.process import Server

from slipway_runtime.server import page as page_files


def test_a_person_sees_the_model_sends_a_sample_and_reads_the_answer(linear_server: Server) -> None:
    origin = f"http://127.0.0.1:{linear_server.port}"
    with open_page() as (page, asked, said):
        page.goto(f"{origin}/")
        expect(page.get_by_role("heading", name="m", exact=True)).to_be_visible()
        expect(page.locator("#phase")).to_have_text("ready")
        expect(page.locator("#digest")).to_have_text(linear_server.digest)
        expect(page.locator("#providers")).to_have_text("CPUExecutionProvider")
        expect(page.locator("#tensors tr")).to_have_text(
            ["inputxFP32[-1, 4]", "outputyFP32[-1, 2]"]
        )

        sample = page.get_by_label("Body of POST /predict")
        expect(sample).to_have_value('{\n  "x": [[0,0,0,0]]\n}')
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#answer")).to_have_text('{"y":[[1.0,1.0]]}')

        sample.fill("[1, 2, 3, 4]")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#answer")).to_have_text('{"y":[41.0,51.0]}')
        expect(page.locator("#outcome")).to_contain_text("200 in ")

        assert said == []
        sample.fill('{"<img src=x onerror=alert(1)>": 1}')
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#outcome")).to_contain_text("400 in ")
        expect(page.locator("#answer")).to_contain_text("<img src=x onerror=alert(1)>")
        assert page.locator("img").count() == 0
        # The browser itself notes an answer of 400, and nothing else.
        assert [line for line in said if "400" not in line] == []
        assert {address.split("/")[2] for address in asked} == {origin.removeprefix("http://")}


def test_the_sample_that_a_person_sees_is_one_that_the_model_takes(tmp_path: Path) -> None:
    jobs = json.dumps({"job": ["cook", "clerk"]})
    with Server(tmp_path, onnx_models.categories(jobs)) as server, open_page() as (page, _, said):
        server.start().wait_until_ready()
        page.goto(f"http://127.0.0.1:{server.port}/")
        sample = page.get_by_label("Body of POST /predict")
        expect(sample).to_have_value('{\n  "job": [["cook"]],\n  "age": [[0.0]]\n}')
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#outcome")).to_contain_text("200 in ")
        assert said == []


def test_a_person_reads_which_routes_there_are_and_what_they_take(linear_server: Server) -> None:
    origin = f"http://127.0.0.1:{linear_server.port}"
    with open_page() as (page, asked, said):
        page.goto(f"{origin}/docs")
        expect(page.get_by_role("heading", name="m on Slipway", exact=True)).to_be_visible()
        document = linear_server.get("/openapi.json").json
        for path, operations in document["paths"].items():
            for method in operations:
                title = f"{method.upper()} {path}"
                expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        route = page.locator("section", has=page.get_by_role("heading", name="POST /predict"))
        expect(route.get_by_label("Example of application/json")).to_have_text('{"x":[[0,0,0,0]]}')
        expect(route.locator("dt")).to_contain_text(["200", "400"])
        route.get_by_text("Schema").click()
        expect(route.locator("details[open] pre")).to_contain_text("FP32 [-1, 4]")
        page.get_by_role("link", name="The model").click()
        expect(page.locator("#digest")).to_have_text(linear_server.digest)
        page.get_by_role("link", name="All routes").click()
        expect(page).to_have_url(f"{origin}/docs")
        assert said == []
        assert {address.split("/")[2] for address in asked} == {origin.removeprefix("http://")}


def test_the_page_can_reach_no_other_host_and_runs_nothing_inline(linear_server: Server) -> None:
    elsewhere = "http://localhost:9/"
    with open_page() as (page, asked, _):
        page.goto(f"http://127.0.0.1:{linear_server.port}/")
        expect(page.locator("#phase")).to_have_text("ready")
        with page.expect_event("console", lambda message: "Content Security" in message.text):
            page.evaluate("address => { fetch(address).catch(() => {}) }", elsewhere)
        with page.expect_event("console", lambda message: "inline" in message.text):
            page.evaluate(
                "() => { const script = document.createElement('script');"
                " script.textContent = 'document.title = \"taken\"';"
                " document.body.append(script) }"
            )
        assert page.title() == "m on Slipway"
        assert elsewhere not in asked


@pytest.mark.parametrize("path", sorted(page_files.PATHS))
def test_no_file_of_the_page_names_another_host(linear_server: Server, path: str) -> None:
    reply = linear_server.get(path)
    assert reply.status == 200
    assert b"://" not in reply.body
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
