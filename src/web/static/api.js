// The API's page: what /openapi.json says, for people. Only text is put in, no HTML.
const api = await (await fetch("/openapi.json")).json();

function add(parent, tag, text) {
  return parent.appendChild(Object.assign(document.createElement(tag), { textContent: text ?? "" }));
}

const named = (schema) => schema?.$ref?.split("/").at(-1);
const kind = (schema) => named(schema) ?? schema?.anyOf?.map(kind).join(" or ") ?? (schema?.enum ?? schema?.const !== undefined ? [schema.enum ?? schema.const].flat().join(" | ") : schema?.type === "array" ? `list of ${kind(schema.items ?? { type: "numbers" })}` : (schema?.type ?? "anything"));
const body = (answer) => Object.entries(answer.content ?? {}).map(([type, { schema }]) => `${type}${schema?.$ref || schema?.type === "array" ? ` ${kind(schema)}` : ""}`).join(", ");

const main = document.getElementById("api");
main.replaceChildren();
add(main, "h1", `${api.info.title}, API version ${api.info.version}`);
for (const part of api.info.description.split("\n\n")) add(main, "p", part.replaceAll("`", ""));
for (const [path, methods] of Object.entries(api.paths))
  for (const [method, call] of Object.entries(methods)) {
    add(main, "h2", `${method.toUpperCase()} ${path}`);
    add(main, "p", call.description ?? call.summary);
    const list = add(main, "ul");
    for (const { name, schema, in: place } of call.parameters ?? []) add(list, "li", `${place}: ${name}, ${kind(schema)}`);
    if (call.requestBody) add(list, "li", `body: ${Object.keys(call.requestBody.content).join(", ")}`);
    for (const [status, answer] of Object.entries(call.responses)) add(list, "li", `${status}: ${body(answer) || answer.description}`);
    const example = call.responses[200]?.content?.["application/json"]?.example;
    if (example) add(main, "pre", JSON.stringify(example, null, 2));
    if (method === "post") add(main, "pre", `curl --data-binary @FILE ${location.origin}${path}`);
  }
add(main, "h1", "What is sent and answered");
for (const [name, model] of Object.entries(api.components.schemas)) {
  add(main, "h2", name);
  add(main, "p", model.description);
  const list = add(main, "ul");
  for (const [field, schema] of Object.entries(model.properties ?? {})) add(list, "li", `${field}: ${kind(schema)}${schema.description ? `; ${schema.description}` : ""}`);
}
