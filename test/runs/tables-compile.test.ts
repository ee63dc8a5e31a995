import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;

/** The errors of the given sources as TypeScript would see them after `edit`. */
function errorsAfter(edits: Record<string, (text: string) => string>): string[] {
  const config = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, root);
  const host = ts.createCompilerHost(options);
  const read = host.readFile.bind(host);
  host.readFile = (file) => {
    const edit = edits[file.slice(root.length)];
    return edit ? edit(readFileSync(file, 'utf8')) : read(file);
  };
  const files = Object.keys(edits).map((file) => root + file);
  const program = ts.createProgram(files, options, host);
  return files.flatMap((file) =>
    program
      .getSemanticDiagnostics(program.getSourceFile(file)!)
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n').split('\n')[0]!),
  );
}

function without(cell: string) {
  return (text: string) => {
    expect(text).toContain(cell);
    return text.replace(cell, '');
  };
}

describe('the lifecycle tables', () => {
  it('do not compile with a cell or a status missing', () => {
    expect(
      errorsAfter({
        'src/runs/lifecycle.ts': without('    time_out: same,\n'),
        'src/runs/tasks.ts': without('    retry: attempt(retryTask),\n'),
        'src/runs/run.ts': (text) => text,
      }),
    ).toEqual([
      expect.stringContaining("Property 'time_out' is missing"),
      expect.stringContaining("Property 'retry' is missing"),
    ]);
  });
});
