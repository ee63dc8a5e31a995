export interface Problem {
  law: 2 | 5 | 8;
  key?: string;
  run_id?: string;
  message: string;
}

export interface Verified {
  org_id: string;
  problems: Problem[];
  /** `runs`: canonical ones that can be read and were not deleted; `rows`: those that the catalog shows. */
  checked: { objects: number; bytes: number; manifests: number; runs: number; rows: number };
}

export interface VerifyOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((checked: Verified['checked']) => void) | undefined;
}
