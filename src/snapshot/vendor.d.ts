/** The part of parquetjs-lite that the parquetjs codec uses. */
declare module 'parquetjs-lite' {
  export interface Field {
    type: 'BOOLEAN' | 'INT64' | 'UTF8';
    compression: string;
    optional: boolean;
    statistics: boolean;
  }
  export class ParquetSchema {
    constructor(fields: Record<string, Field>);
  }
  export class ParquetWriter {
    static openStream(
      schema: ParquetSchema,
      sink: import('node:stream').Writable,
      options: { rowGroupSize: number; pageIndex: boolean },
    ): Promise<ParquetWriter>;
    setMetadata(key: string, value: string): void;
    appendRow(row: Record<string, unknown>): Promise<void>;
    close(): Promise<void>;
  }
  const library: { ParquetSchema: typeof ParquetSchema; ParquetWriter: typeof ParquetWriter };
  export default library;
}
