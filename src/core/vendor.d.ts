declare module 'crc-32/crc32c.js' {
  const library: { buf(bytes: Uint8Array, seed?: number): number };
  export default library;
}
