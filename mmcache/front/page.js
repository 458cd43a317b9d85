// The page of `mmcache browse`: the browser, which asks the server that the page came from.

import { mount } from "./browse.js";

/** Ask by POST. An answer is 4 bytes that tell the length of the JSON, the JSON, and the bytes. */
async function ask(message, signal) {
  let answer;
  try {
    answer = await fetch("ask", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(message),
      signal,
    });
  } catch {
    throw new Error("there is no answer: is `mmcache browse` still running?");
  }
  if (!answer.ok) throw new Error(`the server refused: ${answer.status} ${answer.statusText}`);
  const data = await answer.arrayBuffer();
  const length = new DataView(data).getUint32(0, true);
  const json = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  return { json, bytes: new Uint8Array(data, 4 + length) };
}

const root = document.getElementById("browser");
mount(root, { ask }, { edge: Number(root.dataset.edge) });
