// Shows the OpenAPI document.
"use strict";

const SHOWN_CHARACTERS = 600;

function add(parent, tag, text = "") {
  const child = parent.appendChild(document.createElement(tag));
  child.textContent = text;
  return child;
}

// An image's example is hundreds of kilobytes: its beginning tells what it looks like.
function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > SHOWN_CHARACTERS
    ? `${text.slice(0, SHOWN_CHARACTERS)}… (${text.length} characters)` : text;
}

function addFolded(parent, summary, text) {
  const details = add(parent, "details");
  add(details, "summary", summary);
  add(details, "pre", text).tabIndex = 0;
}

function addContent(section, what, content) {
  for (const [type, media] of Object.entries(content)) {
    add(section, "h3", `${what}: ${type}`);
    if (media.schema.description) {
      add(section, "p", media.schema.description);
    }
    if (media.example !== undefined) {
      const example = add(section, "pre", shown(media.example));
      example.tabIndex = 0;
      example.setAttribute("aria-label", `Example of ${type}`);
    }
    addFolded(section, "Schema", JSON.stringify(media.schema, null, 2));
  }
}

function addOperation(path, method, operation) {
  const section = add(element("routes"), "section");
  add(section, "h2", `${method.toUpperCase()} ${path}`);
  add(section, "p", [operation.summary, operation.description].filter(Boolean).join(". "));
  for (const parameter of operation.parameters ?? []) {
    add(section, "p", `${parameter.in} ${parameter.name}: ${parameter.description}`);
  }
  if (operation.requestBody) {
    if (operation.requestBody.description) {
      add(section, "p", operation.requestBody.description);
    }
    addContent(section, "Body", operation.requestBody.content);
  }
  const answers = add(section, "dl");
  for (const [status, answer] of Object.entries(operation.responses)) {
    add(answers, "dt", status);
    add(answers, "dd", [answer.description, ...Object.keys(answer.content ?? {})].join(" · "));
  }
}

function show(described) {
  document.title = described.info.title;
  say("title", described.info.title);
  say("description", described.info.description);
  element("routes").replaceChildren();
  for (const [path, operations] of Object.entries(described.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      addOperation(path, method, operation);
    }
  }
}

// Asks until the model is ready, or a token is needed; a server that has gone is asked on.
async function start() {
  try {
    const response = await ask("openapi.json");
    element("access").hidden = response.status !== 401;
    const answer = await response.json();
    if (response.ok) {
      say("state", "");
      show(answer);
      return;
    }
    say("state", answer.error, "bad");
    if (response.status === 401) {
      return;
    }
  } catch (error) {
    say("state", `the server does not answer: ${error.message}`, "bad");
  }
  setTimeout(start, POLL_MS);
}

onToken(start);
start();
