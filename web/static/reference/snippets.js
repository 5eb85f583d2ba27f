// A request as a command, and as code.

import { jsonBody } from "./request.js";

const PLAIN = /^[\w@%+=:,./-]+$/;
const SAVED_AS = "picture.jpg";

export const LANGUAGES = { curl: curl, Python: python, JavaScript: javascript };

const fileName = (value) => (value instanceof File ? value.name : value);

// Files of an example are only names.
const isFile = (request, name, value) => value instanceof File || request.fileFields.includes(name);

// --- curl -------------------------------------------------------------------------------------------------

function curl(request) {
  const parts = [];
  if (request.method !== "GET" && request.json === undefined && !request.form) parts.push(`-X ${request.method}`);
  parts.push(...request.headers.map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`));
  if (request.json !== undefined) {
    parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(request.json))}`);
  }
  for (const [name, value] of request.form ?? []) parts.push(curlField(request, name, value));
  if (request.expects === "file") parts.push(`-o ${SAVED_AS}`);
  if (request.expects === "events") parts.push("-N");
  parts.push(quoted(request.url));
  return `curl ${parts.join(parts.length > 2 ? " \\\n  " : " ")}`;
}

function curlField(request, name, value) {
  if (isFile(request, name, value)) return `-F ${quoted(`${name}=@${fileName(value)}`)}`;
  // These mean something of their own to -F.
  const option = /^[@<]|;/.test(value) ? "--form-string" : "-F";
  return `${option} ${quoted(`${name}=${value}`)}`;
}

function quoted(text) {
  return PLAIN.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

// --- Python -----------------------------------------------------------------------------------------------

function python(request) {
  const given = [JSON.stringify(request.url)];
  if (request.headers.length) given.push(`headers=${pythonLiteral(Object.fromEntries(request.headers))}`);
  if (request.json !== undefined) given.push(`json=${pythonLiteral(request.json)}`);
  const files = (request.form ?? []).filter(([name, value]) => isFile(request, name, value));
  const texts = (request.form ?? []).filter((field) => !files.includes(field));
  if (files.length) {
    const opened = files.map(([name, value]) => `("${name}", open(${JSON.stringify(fileName(value))}, "rb"))`);
    given.push(`files=[${opened.join(", ")}]`);
  }
  if (texts.length) given.push(`data=${pythonLiteral(Object.fromEntries(texts))}`);
  if (request.expects === "events") given.push("stream=True");
  const call = `response = requests.${request.method.toLowerCase()}(${arranged(given)})`;
  return `import requests\n\n${call}\n${PYTHON_USES[request.expects]}`;
}

const PYTHON_USES = {
  json: "print(response.json())",
  text: "print(response.text)",
  file: `with open("${SAVED_AS}", "wb") as file:\n    file.write(response.content)`,
  events: "for line in response.iter_lines():\n    print(line.decode())",
};

function arranged(given) {
  return given.length === 1 ? given[0] : `\n    ${given.join(",\n    ")},\n`;
}

function pythonLiteral(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonLiteral(item)}`).join(", ")}}`;
}

// --- JavaScript -------------------------------------------------------------------------------------------

function javascript(request) {
  const url = JSON.stringify(request.url);
  if (request.expects === "events") {
    return `const events = new EventSource(${url});\nevents.addEventListener("status", (event) => console.log(JSON.parse(event.data)));`;
  }
  const lines = [];
  const options = [];
  const headers = Object.fromEntries(request.headers);
  const json = jsonBody(request);
  if (request.method !== "GET") options.push(`method: "${request.method}"`);
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (Object.keys(headers).length) options.push(`headers: ${JSON.stringify(headers)}`);
  if (json !== undefined) options.push(`body: JSON.stringify(${JSON.stringify(json)})`);
  if (request.form) {
    lines.push("const form = new FormData();");
    for (const [name, value] of request.form) {
      const shown = isFile(request, name, value) ? `fileInput.files[0]` : JSON.stringify(value);
      lines.push(`form.append("${name}", ${shown});`);
    }
    options.push("body: form");
  }
  const given = options.length ? `${url}, {\n  ${options.join(",\n  ")},\n}` : url;
  lines.push(`const response = await fetch(${given});`, `console.log(await response.${JAVASCRIPT_USES[request.expects]}());`);
  return lines.join("\n");
}

const JAVASCRIPT_USES = { json: "json", text: "text", file: "blob" };
