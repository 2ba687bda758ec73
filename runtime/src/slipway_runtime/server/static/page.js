// Shows the model and sends samples.
"use strict";

function row(role, tensor) {
  const cells = [role, tensor.name, tensor.datatype, `[${tensor.shape.join(", ")}]`];
  const line = document.createElement("tr");
  for (const text of cells) {
    line.appendChild(document.createElement("td")).textContent = text;
  }
  return line;
}

async function showModel(name) {
  const response = await ask(`v2/models/${encodeURIComponent(name)}`);
  element("access").hidden = response.status !== 401;
  if (!response.ok) {
    say("outcome", (await response.json()).error, "bad");
    return;
  }
  say("outcome", "");
  const metadata = await response.json();
  element("tensors").replaceChildren(
    ...metadata.inputs.map((tensor) => row("input", tensor)),
    ...metadata.outputs.map((tensor) => row("output", tensor)));
  const given = await ask("example.json");
  // As it came: parsing it here would round 64-bit integers.
  const body = given.ok ? await given.text() : "";
  element("sample").value = body;
  element("sample").placeholder = body ? "" : "The inputs are too large for an example.";
  element("send").disabled = false;
}

// Asks until the model is ready; a server that has gone is asked on.
async function start() {
  try {
    const health = await (await fetch("health")).json();
    document.title = `${health.model} on Slipway`;
    say("name", health.model);
    say("digest", health.digest);
    say("version", health.version);
    say("providers", health.providers.join(", ") || "-");
    say("phase", health.phase, health.status === "ok" ? "good" : "bad");
    if (health.status === "ok") {
      await showModel(health.model);
      return;
    }
  } catch (error) {
    say("phase", `the server does not answer: ${error.message}`, "bad");
  }
  setTimeout(start, POLL_MS);
}

async function send(event) {
  event.preventDefault();
  element("send").disabled = true;
  const begin = performance.now();
  try {
    const response = await ask("predict", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: element("sample").value,
    });
    // As it came: parsing it here would round 64-bit integers.
    const text = await response.text();
    const took = (performance.now() - begin).toFixed(1);
    const id = response.headers.get("x-request-id");
    say("outcome", `${response.status} in ${took} ms, request ${id}`, response.ok ? "good" : "bad");
    say("answer", text);
  } catch (error) {
    say("outcome", `no answer: ${error.message}`, "bad");
    say("answer", "");
  } finally {
    element("send").disabled = false;
  }
}

onToken(start);
element("form").addEventListener("submit", send);
start();
