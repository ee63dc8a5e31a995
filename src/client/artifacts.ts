import type { ArtifactAcknowledgement, ArtifactBody, ArtifactView } from '../service/schemas.ts';
import type { CallOptions, Http } from './http.ts';

/** What one operator left at one port. */
export class ArtifactClient {
  readonly #http: Http;
  readonly #path: string;

  constructor(http: Http, path: string) {
    this.#http = http;
    this.#path = path;
  }

  /** As it is stored now. Throws ARTIFACT_NOT_FOUND. */
  get(options: CallOptions = {}): Promise<ArtifactView> {
    return this.#http.json('GET', this.#path, options);
  }

  put(body: ArtifactBody, options: CallOptions = {}): Promise<ArtifactAcknowledgement> {
    return this.#http.json('PUT', this.#path, { body, ...options });
  }

  /** Nobody needs it any more: the clean-up removes it once the run has ended. */
  drop({ attempt }: { attempt: number }, options: CallOptions = {}): Promise<ArtifactAcknowledgement> {
    return this.#http.json('DELETE', `${this.#path}?attempt=${attempt}`, options);
  }
}
