/**
 * Preset deflate dictionary of inline payloads, format version 1. Its bytes are part of the format: never edit
 * it; a better one gets the next version. The most useful text stands last (RFC 1950).
 */
export const DICTIONARY_V1 = new TextEncoder().encode(
  [
    '"postgres://","bigquery","snowflake://","s3://","gs://","public.","dbt","spark","model","snapshot","seed","test","sql","etl",',
    '"CANCELLING","TIMED_OUT","CANCELLED","QUEUED","RUNNING","FAILED","SUCCEEDED",',
    '"latest_task":{"key":"","status":"RUNNING","attempt":1,"started_at":1790000000000,"finished_at":null,"error":null},',
    '"result":{"uri":"gs://","rows":1000,"bytes":100000,"version":null},"error":{"code":null,"message":""},',
    '{"kind":"delete","run_id":"","revision":2,"deleted_at":17900000}',
    '{"kind":"intent","row":{"run_id":"',
    '{"format":1,"org_id":"","records":[{"kind":"put","row":{"run_id":"0190","org_id":"","kind":"job",',
    '"reference_id":null,"queue":null,"queue":"default","status":"SUCCEEDED","attempt":1,"revision":3,"created_at":179',
    ',"updated_at":179,"started_at":null,"started_at":179,"finished_at":null,"finished_at":179,"heartbeat_at":null,"heartbeat_at":179',
    ',"payload":{"target_namespace":null,"target_table":null,"source_type":null},"payload":{"target_namespace":"","target_table":"","source_type":"',
    '"},"inputs":[{"namespace":"","name":""},{"namespace":""}],"outputs":[{"namespace":"","name":"',
    '"}],"latest_task":null,"result":null,"error":null,"code_version":null,"first_created_at":null,"projection_version":1}},{"kind":"put","row":{"run_id":"',
    '"}],"latest_task":null,"result":null,"error":null,"code_version":null,"first_created_at":null,"projection_version":1}}]}',
  ].join(''),
);
