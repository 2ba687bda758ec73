// What the pages share. No library, no other host; text is only ever set as text.
"use strict";

const element = (id) => document.getElementById(id);
const POLL_MS = 1000;

function say(id, text, kind = "") {
  element(id).textContent = text;
  element(id).className = kind;
}

// The token stays in this page alone: it is in no cookie and no storage.
function ask(path, options = {}) {
  const token = element("token").value;
  const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
  return fetch(path, { ...options, headers });
}

function onToken(use) {
  element("access").addEventListener("submit", (event) => {
    event.preventDefault();
    use();
  });
}
