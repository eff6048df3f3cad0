/** Types of the browser module; docs/browser.md says what it does. */

export interface Limits {
  /** Seconds that datagrams get to catch up with text that the event stream has brought: 0.3. */
  raceS?: number;
  /** Seconds for which a lost answer is asked for: 60. */
  resumeS?: number;
  /** Seconds between two attempts, at first: 0.1. */
  minRetryS?: number;
  /** Seconds between two attempts, at most: 2. */
  maxRetryS?: number;
}

export interface Options {
  /** Of the gateway, with or without `/v1`; the page's own origin if left out. */
  baseUrl?: string;
  /** Sent as a bearer token. */
  apiKey?: string | null;
  /** Seconds that an answer may take to begin: 600. */
  timeoutS?: number;
  /** Silence in seconds after which a connection is taken for dead; above the gateway's heartbeat. */
  quietS?: number;
  /** Whether answers may come by datagrams where browser and gateway have them: true. */
  datagrams?: boolean;
  limits?: Limits;
}

/** Where an answer was left. */
export interface Position {
  id: string;
  cursor: number;
  before: number;
}

export type Rung = "datagrams" | "stream" | "sse" | "poll";

export interface ChatMessage {
  role: string;
  content: unknown;
  [field: string]: unknown;
}

export interface ChatRequest {
  model: string;
  messages: ChatMessage[];
  [field: string]: unknown;
}

export interface CompletionRequest {
  model: string;
  prompt: string | string[];
  [field: string]: unknown;
}

interface Chunk<Choice> {
  id: string;
  object: string;
  created: number;
  model: string;
  choices: Choice[];
  usage?: { prompt_tokens: number; completion_tokens?: number; total_tokens: number } | null;
  [field: string]: unknown;
}

export type ChatChunk = Chunk<{
  index: number;
  delta: { role?: string; content?: string | null; reasoning?: string | null; [field: string]: unknown };
  finish_reason: string | null;
  [field: string]: unknown;
}>;

export type CompletionChunk = Chunk<{
  index: number;
  text: string;
  finish_reason: string | null;
  [field: string]: unknown;
}>;

export interface RequestOptions {
  /** Aborting it stops the answer, on the server too. */
  signal?: AbortSignal | null;
  headers?: Record<string, string>;
}

/** One streamed answer. It resumes by itself; leaving its loop early stops it. */
export class Answer<C = ChatChunk> implements AsyncIterable<C> {
  private constructor();
  [Symbol.asyncIterator](): AsyncGenerator<C, void, undefined>;
  readonly id: string;
  /** What it is being read by now: one, or two while they are raced. */
  readonly rungs: Rung[];
  /** After the chunk that was taken last. */
  readonly position: Position;
  /** Stop reading, and stop the answer unless it has been read to its end. */
  close(): Promise<void>;
  /** Stop reading; the answer goes on. */
  leave(): void;
  /** Stop the answer. */
  cancel(): Promise<void>;
  /** Read every open rung anew from the cursor. */
  reconnect(rungs?: Rung[]): void;
}

interface Requests<Body, Whole, C> {
  create(body: Body & { stream: true }, options?: RequestOptions): Promise<Answer<C>>;
  create(body: Body & { stream?: false }, options?: RequestOptions): Promise<Whole>;
}

export interface LiveOptions {
  model?: string;
  /** The system message. */
  instructions?: string;
  /** The conversation so far. */
  messages?: ChatMessage[];
  tools?: unknown[];
  /** Have the text thought about while it is typed, `{}` as the gateway does by itself. */
  livemind?: LiveMind;
  /** Have no other request find in a cache what is computed for this prompt. */
  private_cache?: boolean;
  /** Told whenever the gateway has computed more. */
  onComputed?: (computed: Computed) => void;
  /** Told of every event of the session, such as `input_text.reasoning`, as docs/live.md has it. */
  onEvent?: (event: { type: string; [field: string]: unknown }) => void;
  /** Further fields of a chat request, such as `temperature`. */
  [field: string]: unknown;
}

/** The fields of `livemind` in docs/live.md. */
export interface LiveMind {
  thinker?: string;
  at_commit?: "cancel" | "wait";
  /** So that `onEvent` hears of thoughts; true where there is one. */
  show_thoughts?: boolean;
  [field: string]: unknown;
}

export interface Computed {
  /** Of the text that all of this holds for; typing on leaves it so. */
  version: number;
  promptTokens: number;
  /** How many of them further text cannot change. */
  stableTokens: number;
  /** How many of those need not be computed any more. */
  warmTokens: number;
}

/** A prompt that is sent as it is typed. Positions count code points. */
export interface LivePrompt {
  readonly id: string;
  /** What is typed; after a refusal, or somebody else's edit (`input_text.changed`), what the gateway has. */
  readonly text: string;
  /** Edits that the gateway has. */
  readonly version: number;
  /** Each resolves when the gateway has the edit; what is typed before a refusal is known goes with it. */
  append(text: string): Promise<void>;
  replace(start: number, end: number, text: string): Promise<void>;
  clear(): Promise<void>;
  /** Make the text this one, by one edit of what differs. */
  set(text: string): Promise<void>;
  computed(): Promise<Computed>;
  /** Have the text thought about from now on; null stops that. Refused while it is answered. */
  think(livemind: LiveMind | null): Promise<unknown>;
  /** Send the text off, and begin an empty one, whose edits are sent when the answer is over. */
  commit(): Promise<Answer>;
  /** Stop the answer, or the commit that waits for a thought; refused where there is neither. */
  cancel(): Promise<unknown>;
  close(): Promise<void>;
}

/** A live prompt's edit or commit that cannot be taken. */
export interface LiveRefused extends ClientError {
  readonly name: "LiveRefused";
  readonly code: string;
}

export class Headstart {
  constructor(options?: Options);
  readonly chat: {
    readonly completions: Requests<ChatRequest, Record<string, unknown>, ChatChunk>;
  };
  readonly completions: Requests<CompletionRequest, Record<string, unknown>, CompletionChunk>;
  readonly models: { list(): Promise<{ data: { id: string; [field: string]: unknown }[] }> };
  /** Open a session before it is needed, such as when somebody begins to type; cheap if there is one. */
  prepare(): void;
  /** Read an answer on, after a reload or in another tab. */
  resume<C = ChatChunk>(position: Position): Answer<C>;
  /** Begin a prompt that is sent as it is typed. */
  live(options?: LiveOptions): Promise<LivePrompt>;
  /** Stop what is read and typed, and close the connections. */
  close(): Promise<void>;
}

export class HeadstartError extends Error {
  constructor(message: string, param?: string | null);
  readonly status: number;
  readonly type: string;
  readonly isRetryable: boolean;
  /** The request's field at fault, if there is exactly one. */
  readonly param: string | null;
}
export class ClientError extends HeadstartError {}
export class BadRequest extends ClientError {}
export class NotFound extends ClientError {}
export class RequestTimeout extends ClientError {}
export class PayloadTooLarge extends ClientError {}
export class HeadTooLarge extends ClientError {}
export class Unauthenticated extends ClientError {}
export class Forbidden extends ClientError {}
export class RateLimited extends ClientError {}
export class Cancelled extends ClientError {}
export class EngineError extends HeadstartError {}
export class EngineUnavailable extends EngineError {}
export class EngineLost extends EngineError {}
export class EngineFailed extends EngineError {}
export class ProtocolViolation extends HeadstartError {}
