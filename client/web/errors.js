/** Every error of this module, as one tree: that of the gateway (docs/client.md), by its names. */

export class HeadstartError extends Error {
  static status = 500;
  static type = "InternalServerError";
  static isRetryable = false;

  constructor(message, param = null) {
    super(message);
    this.name = new.target.name;
    this.param = param;
    this.status = new.target.status;
    this.type = new.target.type;
    this.isRetryable = new.target.isRetryable;
  }
}

export class ClientError extends HeadstartError {
  static status = 400;
  static type = "BadRequestError";
}
export class BadRequest extends ClientError {}
export class NotFound extends ClientError {
  static status = 404;
  static type = "NotFoundError";
}
export class RequestTimeout extends ClientError {
  static status = 408;
  static type = "RequestTimeoutError";
}
export class PayloadTooLarge extends ClientError {
  static status = 413;
  static type = "PayloadTooLargeError";
}
export class HeadTooLarge extends ClientError {
  static status = 431;
  static type = "RequestHeaderFieldsTooLargeError";
}
export class Unauthenticated extends ClientError {
  static status = 401;
  static type = "AuthenticationError";
}
export class Forbidden extends ClientError {
  static status = 403;
  static type = "PermissionDeniedError";
}
export class RateLimited extends ClientError {
  static status = 429;
  static type = "RateLimitError";
  static isRetryable = true;
}
export class Cancelled extends ClientError {
  static status = 409;
  static type = "CancelledError";
}

export class EngineError extends HeadstartError {}
export class EngineUnavailable extends EngineError {
  static status = 503;
  static type = "ServiceUnavailableError";
  static isRetryable = true;
}
export class EngineLost extends EngineError {
  static status = 503;
  static type = "ServiceUnavailableError";
  static isRetryable = true;
}
export class EngineFailed extends EngineError {}

export class ProtocolViolation extends HeadstartError {}

/** The first of each status and type is what a gateway's answer is turned into. */
const TOLD = [
  BadRequest, NotFound, RequestTimeout, PayloadTooLarge, HeadTooLarge, Unauthenticated, Forbidden,
  RateLimited, Cancelled, EngineUnavailable, EngineFailed,
];
const MAX_SHOWN = 300;

/** Turn a refusal's body into the error it stands for. */
export function errorOf(status, body) {
  let told;
  try {
    told = JSON.parse(body).error;
  } catch {
    told = null;
  }
  if (typeof told?.message !== "string") {
    told = { message: `HTTP ${status}: ${body.slice(0, MAX_SHOWN)}` };
  }
  return made(told, status);
}

/** The error that an event of an answer tells of, or null. */
export function errorIn(event) {
  const told = event?.error;
  if (typeof told?.message !== "string") return null;
  return made(told, Number.isInteger(told.code) ? told.code : 500);
}

function made(told, status) {
  const Kind =
    TOLD.find((kind) => kind.status === status && kind.type === told.type) ??
    (status < 500 ? ClientError : EngineError);
  const error = new Kind(told.message || `HTTP ${status}`, told.param ?? null);
  error.status = status;
  return error;
}
