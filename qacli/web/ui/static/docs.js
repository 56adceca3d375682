// Sends the forms of the endpoints, and shows each response while it arrives.

for (const form of document.querySelectorAll("form.try")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}

function requestOf(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  const headers = new Headers();
  for (const field of form.querySelectorAll("[data-in]")) {
    if (field.dataset.in === "path") {
      path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    } else if (field.value !== "") {
      if (field.dataset.in === "query") query.append(field.name, field.value);
      else headers.set(field.name, field.value);
    }
  }
  const token = document.getElementById("token")?.value;
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const accept = form.querySelector("select[id$=-accept]");
  if (accept) headers.set("Accept", accept.value);
  const body = form.querySelector("textarea")?.value;
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const search = query.toString();
  return [search ? `${path}?${search}` : path, { method: form.dataset.method, headers, body }];
}

async function send(form) {
  const button = form.querySelector("button");
  const output = form.querySelector("output");
  const status = output.querySelector(".status");
  const text = output.querySelector("pre");
  output.hidden = false;
  status.textContent = "Waiting…";
  text.textContent = "";
  button.disabled = true;
  try {
    const [address, options] = requestOf(form);
    const response = await fetch(address, options);
    status.textContent = `${response.status} ${response.statusText}`;
    const kind = response.headers.get("Content-Type") ?? "";
    if (/json$/.test(kind.split(";")[0]) && !kind.includes("ndjson")) {
      const body = await response.text();
      try {
        text.textContent = JSON.stringify(JSON.parse(body), null, 2);
      } catch {
        text.textContent = body;
      }
    } else if (response.body) {
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text.append(part.value);
      }
    }
  } catch (error) {
    status.textContent = `No response: ${error.message}`;
  } finally {
    button.disabled = false;
  }
}
