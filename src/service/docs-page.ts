import type { OpenApi, Operation } from './openapi-document.ts';
import { MEANINGS } from './problem.ts';

const STYLE = `
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
code, .m { font-family: ui-monospace, monospace; font-size: .92em }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8884 }
details { border: 1px solid #8884; border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem }
summary { cursor: pointer }
.m { display: inline-block; min-width: 4.2em; font-weight: 600 }
.r { float: right; opacity: .7; font-size: .85em }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .2rem .6rem .2rem 0; vertical-align: top; border-bottom: 1px solid #8882 }
`;

/** The OpenAPI document for people: one file, no script, nothing loaded from anywhere. */
export function docsPage(openapi: OpenApi): string {
  const byTag = new Map<string, string[]>();
  for (const [path, operations] of Object.entries(openapi.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags[0] ?? '';
      byTag.set(tag, [...(byTag.get(tag) ?? []), operationHtml(method, path, operation)]);
    }
  }
  const sections = [...byTag].map(([tag, blocks]) => `<h2>${html(tag)}</h2>${blocks.join('')}`);
  const schemas = Object.entries(openapi.components.schemas).map(
    ([name, schema]) =>
      `<details id="schema-${html(name)}"><summary><code>${html(name)}</code></summary><pre><code>${html(JSON.stringify(schema, null, 2))}</code></pre></details>`,
  );
  const codes = Object.entries(MEANINGS).map(
    ([code, { status, title }]) =>
      `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${html(title)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>runfold</title><style>${STYLE}</style>
<h1>runfold</h1>
<p>${ticks(String((openapi.info as { description: string }).description))}</p>
<p>Send <code>Authorization: Bearer &lt;token&gt;</code>. Machines read <a href="/openapi.json">/openapi.json</a>.</p>
${sections.join('\n')}
<h2>Errors</h2>
<p>As <code>application/problem+json</code>, with a stable <code>code</code>:</p>
<table><tr><th>code</th><th>status</th><th>meaning</th></tr>${codes.join('')}</table>
<h2>Schemas</h2>
${schemas.join('\n')}
</html>
`;
}

function operationHtml(method: string, path: string, operation: Operation): string {
  const parameters = operation.parameters.map(
    ({ name, in: where, required, description = '' }) =>
      `<tr><td><code>${html(name)}</code></td><td>${where}${required ? '' : ', optional'}</td><td>${ticks(description)}</td></tr>`,
  );
  const responses = Object.entries(operation.responses as Record<string, { description: string }>).map(
    ([status, { description }]) => `<tr><td>${status}</td><td>${ticks(description)}</td></tr>`,
  );
  const body = schemaLink(operation.requestBody);
  return `<details><summary><span class="m">${method.toUpperCase()}</span><code>${html(path)}</code>
 <span class="r">${html(operation['x-roles'].join(', '))}</span><br>${html(operation.summary)}</summary>
${operation.description === undefined ? '' : `<p>${ticks(operation.description)}</p>`}
${body === null ? '' : `<p>Body: ${body}</p>`}
${parameters.length === 0 ? '' : `<table>${parameters.join('')}</table>`}
<table>${responses.join('')}</table></details>`;
}

function schemaLink(requestBody: unknown): string | null {
  const match = /#\/components\/schemas\/([A-Za-z0-9]+)/.exec(JSON.stringify(requestBody ?? null));
  return match === null ? null : `<a href="#schema-${match[1]}"><code>${match[1]}</code></a>`;
}

function ticks(text: string): string {
  return html(text).replace(/`([^`]+)`/g, '<code>$1</code>');
}

function html(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&${{ '&': 'amp', '<': 'lt', '>': 'gt', '"': 'quot' }[c]};`);
}
