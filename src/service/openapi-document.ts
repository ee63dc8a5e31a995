export type Json = Record<string, unknown>;

/** An OpenAPI document, as far as this service fills it and its page of documentation reads it. */
export interface OpenApi extends Json {
  openapi: '3.1.0';
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Json>; securitySchemes: Json };
}

export interface Operation extends Json {
  operationId: string;
  tags: string[];
  summary: string;
  description?: string;
  parameters: { name: string; in: string; required: boolean; description?: string; schema: Json }[];
  'x-roles': string[];
}
