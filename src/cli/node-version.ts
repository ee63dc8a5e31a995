/** As `engines` in package.json; a test compares them. */
export const NODE_VERSION_MIN = '22.19';

/** Whether this Node can run the rest; if not, says so and sets the exit code. Uses nothing a Node of 2020 lacks. */
export function checkNode(program: string, version: string = process.versions.node): boolean {
  if (isAtLeast(version, NODE_VERSION_MIN)) return true;
  process.stderr.write(
    `error: ${program} needs Node.js ${NODE_VERSION_MIN} or newer; this is ${version}.\n` +
      'hint: Install a newer one from https://nodejs.org, or run `npx -p node@24 node` in its place.\n',
  );
  process.exitCode = 2;
  return false;
}

function isAtLeast(version: string, min: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [majorMin = 0, minorMin = 0] = min.split('.').map(Number);
  return major > majorMin || (major === majorMin && minor >= minorMin);
}
