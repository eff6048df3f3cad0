"""Requests, good and bad, that we must answer as `vllm serve` does."""

import json
from dataclasses import dataclass
from typing import Any

from headstart.configs.serving import GatewaySettings
from tests.golden.vllm_answers import CHAT, COMPLETIONS, FLAT_TOOL, MODEL, RESPONSES, TOOL

__all__ = ["AT_ONCE", "CASES", "FEW", "FORMS", "WANTED", "Case", "streamed"]

JSON = "application/json"
EMBEDDINGS, TOKENIZE, DETOKENIZE = "/v1/embeddings", "/tokenize", "/detokenize"
ASK = "Name three colours."
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
TURNS = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Italy?"},
]
CALLED = [
    {"role": "user", "content": "How is the weather in Rome?"},
    {
        "role": "assistant",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
]
PARTS = [{"type": "text", "text": "Name"}, {"type": "text", "text": "a colour."}]


@dataclass(frozen=True, slots=True)
class Case:
    """One request."""

    path: str
    body: bytes = b""
    method: str = "POST"
    content_type: str | None = JSON


def user(content: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content, **more}]


def posted(path: str, common: dict[str, Any], fields: dict[str, Any]) -> Case:
    # A field that is `...` is left out.
    body = {key: value for key, value in (common | fields).items() if value is not ...}
    return Case(path, json.dumps(body).encode())


def chat(**fields: Any) -> Case:
    common = {"model": MODEL.name, "messages": user(ASK), "max_tokens": 8, "temperature": 0}
    return posted(CHAT, common, fields)


def completion(**fields: Any) -> Case:
    common = {"model": MODEL.name, "prompt": "The sky is", "max_tokens": 8, "temperature": 0}
    return posted(COMPLETIONS, common, fields)


def response(**fields: Any) -> Case:
    common = {"model": MODEL.name, "input": ASK, "max_output_tokens": 8, "temperature": 0}
    return posted(RESPONSES, common, fields)


def streamed(case: Case) -> Case:
    return Case(case.path, json.dumps(json.loads(case.body) | {"stream": True}).encode())


def schema(strict: Any = SCHEMA) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "colours", "schema": strict}}


def flat_schema(strict: Any = SCHEMA) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "name": "colours", "schema": strict}}


GOOD: dict[str, Case] = {
    "chat": chat(),
    "chat, model left out": chat(model=...),
    "chat, model empty": chat(model=""),
    "chat, model null": chat(model=None),
    "chat, max_completion_tokens": chat(max_tokens=..., max_completion_tokens=5),
    "chat, one token": chat(max_tokens=1),
    "chat, several turns": chat(messages=TURNS),
    "chat, parts": chat(messages=user(PARTS)),
    "chat, named user": chat(messages=user(ASK, name="Ann")),
    "chat, developer": chat(messages=[{"role": "developer", "content": "Hi"}, *user(ASK)]),
    "chat, stop": chat(stop=["colour", "\n"], max_tokens=24),
    "chat, stop kept": chat(stop="colour", include_stop_str_in_output=True, max_tokens=24),
    "chat, stop token": chat(stop_token_ids=[28], max_tokens=24),
    "chat, seed": chat(temperature=0.9, seed=7),
    "chat, two choices": chat(temperature=0.9, seed=7, n=2),
    "chat, top_p and top_k": chat(temperature=0.9, seed=7, top_p=0.8, top_k=20),
    "chat, min_p": chat(temperature=0.9, seed=7, min_p=0.2),
    "chat, logit_bias": chat(logit_bias={"504": 100.0}, max_tokens=3),
    "chat, penalties": chat(presence_penalty=0.5, frequency_penalty=0.5, repetition_penalty=1.1),
    "chat, logprobs": chat(logprobs=True, top_logprobs=3),
    "chat, logprobs of none": chat(logprobs=True, top_logprobs=0),
    "chat, prompt_logprobs": chat(prompt_logprobs=1, max_tokens=2),
    "chat, token ids": chat(return_token_ids=True),
    "chat, JSON object": chat(response_format={"type": "json_object"}, max_tokens=24),
    "chat, JSON schema": chat(response_format=schema(), max_tokens=40),
    "chat, text format": chat(response_format={"type": "text"}),
    "chat, choice": chat(structured_outputs={"choice": ["red", "green"]}),
    "chat, regex": chat(structured_outputs={"regex": "[ab]{4}"}),
    "chat, tool required": chat(tools=[TOOL], tool_choice="required", max_tokens=48),
    "chat, tool auto": chat(tools=[TOOL], tool_choice="auto", max_tokens=24),
    "chat, tool none": chat(tools=[TOOL], tool_choice="none"),
    "chat, tool named": chat(
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_tokens=48,
    ),
    "chat, tool answered": chat(messages=CALLED, tools=[TOOL]),
    "chat, no parallel tools": chat(tools=[TOOL], parallel_tool_calls=False),
    "chat, reasoning fields": chat(include_reasoning=False, reasoning_effort="low"),
    "chat, template arguments": chat(chat_template_kwargs={"enable_thinking": False}),
    "chat, no generation prompt": chat(
        messages=[*user(ASK), {"role": "assistant", "content": "Red,"}],
        add_generation_prompt=False,
        continue_final_message=True,
    ),
    "chat, echo": chat(echo=True),
    "chat, ignore_eos": chat(ignore_eos=True, min_tokens=4),
    "chat, truncated prompt": chat(truncate_prompt_tokens=10),
    "chat, salt": chat(cache_salt="salt"),
    "chat, user, metadata, store": chat(user="ann", metadata={"a": "b"}, store=True),
    "chat, unknown field": chat(colour="red"),
    "chat, unicode": chat(messages=user("naïve 日本語 🎉 \u2028 \x00")),
    "chat, lone surrogate": chat(messages=user("\ud800")),
    "completion": completion(),
    "completion, several prompts": completion(prompt=["The sky is", "Grass is"]),
    "completion, token ids": completion(prompt=[504, 6376, 314]),
    "completion, lists of token ids": completion(prompt=[[504, 6376, 314], [504]]),
    "completion, echo": completion(echo=True),
    "completion, echo with logprobs": completion(echo=True, logprobs=1, max_tokens=2),
    "completion, logprobs": completion(logprobs=2),
    "completion, two choices": completion(n=2, temperature=0.9, seed=3),
    "completion, stop": completion(stop=[" the", "."], max_tokens=24),
    "completion, JSON schema": completion(response_format=schema(), max_tokens=40),
    "completion, suffix": completion(suffix=" The end."),
    "completion, best_of": completion(best_of=1),
    "response": response(),
    "response, model left out": response(model=...),
    "response, several turns": response(input=TURNS),
    "response, instructions": response(instructions="Answer in one word."),
    "response, logprobs": response(include=["message.output_text.logprobs"], top_logprobs=2),
    "response, JSON schema": response(text=flat_schema(), max_output_tokens=40),
    "response, tool": response(tools=[FLAT_TOOL], tool_choice="required", max_output_tokens=48),
    "response, tool auto": response(tools=[FLAT_TOOL], max_output_tokens=24),
    "response, reasoning": response(reasoning={"effort": "low"}),
    "response, metadata, not stored": response(metadata={"a": "b"}, store=False),
    "response, seed": response(temperature=0.9, seed=7),
    "tokenize": posted(TOKENIZE, {"model": MODEL.name, "prompt": "The sky is"}, {}),
    "tokenize, messages": posted(TOKENIZE, {"messages": user(ASK)}, {}),
    "tokenize, texts of tokens": posted(TOKENIZE, {"prompt": "sky", "return_token_strs": True}, {}),
    "detokenize": posted(DETOKENIZE, {"model": MODEL.name, "tokens": [504, 6376, 314]}, {}),
}

STREAMED: dict[str, Case] = {
    f"{name}, streamed": Case(
        case.path, json.dumps(json.loads(case.body) | {"stream": True}).encode()
    )
    for name, case in GOOD.items()
    if case.path in (CHAT, COMPLETIONS, RESPONSES)
}

OPTIONS: dict[str, Case] = {
    "chat, usage": chat(stream=True, stream_options={"include_usage": True}),
    "chat, usage in every chunk": chat(
        stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}
    ),
    "completion, usage": completion(stream=True, stream_options={"include_usage": True}),
    "response, options": response(stream=True, stream_options={"include_obfuscation": False}),
    "chat, content type with charset": Case(
        CHAT, chat().body, content_type="application/json; charset=utf-8"
    ),
}

LONG = "word " * 3000
BAD: dict[str, Case] = {
    **{
        f"{path}: {name}": Case(path, body)
        for path in (CHAT, COMPLETIONS, RESPONSES, TOKENIZE)
        for name, body in {
            "malformed": b"{bad",
            "cut short": b'{"model": "smol", ',
            "empty": b"",
            "null": b"null",
            "a list": b"[]",
            "a number": b" 7",
            "a text": b'"hello"',
            "an empty object": b"{}",
            "not UTF-8": b'{"model": "\xff"}',
        }.items()
    },
    "chat, another content type": Case(CHAT, chat().body, content_type="text/plain"),
    "chat, no content type": Case(CHAT, chat().body, content_type=None),
    "chat, form": Case(CHAT, b"model=smol", content_type="application/x-www-form-urlencoded"),
    "response, another content type": Case(RESPONSES, response().body, content_type="text/plain"),
    "chat, unknown model": chat(model="gpt-9"),
    "chat, number for the model": chat(model=7),
    "chat, no messages": chat(messages=...),
    "chat, empty messages": chat(messages=[]),
    "chat, text for the messages": chat(messages="hello"),
    "chat, null messages": chat(messages=None),
    "chat, message without role": chat(messages=[{"content": "a"}]),
    "chat, unknown role": chat(messages=[{"role": "wizard", "content": "a"}]),
    "chat, number for the role": chat(messages=[{"role": 7, "content": "a"}]),
    "chat, number for the content": chat(messages=user(7)),
    "chat, unknown part": chat(messages=user([{"type": "smell", "smell": "rose"}])),
    "chat, image": chat(
        messages=user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}])
    ),
    "chat, no tokens": chat(max_tokens=0),
    "chat, fewer than no tokens": chat(max_tokens=-1),
    "chat, half a token": chat(max_tokens=1.5),
    "chat, text for the tokens": chat(max_tokens="many"),
    "chat, no completion tokens": chat(max_tokens=..., max_completion_tokens=0),
    "chat, more tokens than fit": chat(max_tokens=5000),
    "chat, context overflow": chat(messages=user(LONG)),
    "chat, n of 0": chat(n=0),
    "chat, n below 0": chat(n=-1),
    "chat, text for n": chat(n="two"),
    "chat, several greedy choices": chat(n=2),
    "chat, number for stop": chat(stop=7),
    "chat, object for stop": chat(stop={"a": 1}),
    "chat, empty stop": chat(stop=""),
    "chat, empty stop in a list": chat(stop=[""]),
    "chat, negative temperature": chat(temperature=-1),
    "chat, text for the temperature": chat(temperature="hot"),
    "chat, top_p above 1": chat(top_p=2),
    "chat, top_p of 0": chat(top_p=0),
    "chat, top_k below -1": chat(top_k=-5),
    "chat, min_p above 1": chat(min_p=2),
    "chat, penalty out of range": chat(presence_penalty=9),
    "chat, text for the seed": chat(seed="x"),
    "chat, logit_bias of no token": chat(logit_bias={"99999999": 1.0}),
    "chat, text in logit_bias": chat(logit_bias={"the": 1.0}),
    "chat, top_logprobs alone": chat(top_logprobs=2),
    "chat, too many logprobs": chat(logprobs=True, top_logprobs=99),
    "chat, negative logprobs": chat(logprobs=True, top_logprobs=-3),
    "chat, prompt_logprobs in a stream": chat(prompt_logprobs=1, stream=True),
    "chat, unknown response format": chat(response_format={"type": "poem"}),
    "chat, schema left out": chat(response_format={"type": "json_schema"}),
    "chat, bad schema": chat(response_format=schema({"type": "nothing"})),
    "chat, text for the schema": chat(response_format=schema("x")),
    "chat, bad regex": chat(structured_outputs={"regex": "["}),
    "chat, two structures": chat(structured_outputs={"regex": "a", "choice": ["a"]}),
    "chat, tool choice without tools": chat(tool_choice="required"),
    "chat, unknown tool": chat(
        tools=[TOOL], tool_choice={"type": "function", "function": {"name": "other"}}
    ),
    "chat, unknown tool choice": chat(tools=[TOOL], tool_choice="maybe"),
    "chat, tool without function": chat(tools=[{"type": "function"}]),
    "chat, text for the tools": chat(tools="all"),
    "chat, options without stream": chat(stream_options={"include_usage": True}),
    "chat, number for the options": chat(stream=True, stream_options=3),
    "chat, text for stream": chat(stream="maybe"),
    "chat, empty salt": chat(cache_salt=""),
    "chat, number for the salt": chat(cache_salt=3),
    "chat, template of one's own": chat(chat_template="{{ 1 }}"),
    "chat, priority": chat(priority=3),
    "completion, unknown model": completion(model="gpt-9"),
    "completion, no prompt": completion(prompt=...),
    "completion, empty prompt": completion(prompt=""),
    "completion, no prompts": completion(prompt=[]),
    "completion, token ids of no token": completion(prompt=[99999999]),
    "completion, negative token id": completion(prompt=[-1]),
    "completion, context overflow": completion(prompt=LONG),
    "completion, no tokens": completion(max_tokens=0),
    "completion, too many logprobs": completion(logprobs=99),
    "completion, echo without tokens": completion(echo=True, max_tokens=0),
    "response, unknown model": response(model="gpt-9"),
    "response, no input": response(input=...),
    "response, empty input": response(input=""),
    "response, empty list": response(input=[]),
    "response, number for the input": response(input=7),
    "response, unknown item": response(input=[{"type": "smell"}]),
    "response, no tokens": response(max_output_tokens=0),
    "response, context overflow": response(input=LONG),
    "response, unknown previous one": response(previous_response_id="resp_1"),
    "response, in the background": response(background=True),
    "response, too many logprobs": response(top_logprobs=99),
    "response, bad schema": response(text=flat_schema({"type": "nothing"})),
    "response, unknown tool choice": response(tools=[FLAT_TOOL], tool_choice="maybe"),
    "response that is not kept": Case(f"{RESPONSES}/resp_1", method="GET", content_type=None),
    "cancelled response that is not kept": Case(f"{RESPONSES}/resp_1/cancel", content_type=None),
    "embeddings": posted(EMBEDDINGS, {"model": MODEL.name, "input": "a"}, {}),
    "tokenize, unknown model": posted(TOKENIZE, {"model": "gpt-9", "prompt": "a"}, {}),
    "detokenize, number": posted(DETOKENIZE, {"tokens": 3}, {}),
    "detokenize, text": posted(DETOKENIZE, {"tokens": ["a"]}, {}),
    "no such route": Case("/v1/nothing"),
    "images": Case("/v1/images/generations", b"{}"),
    "chat by GET": Case(CHAT, method="GET", content_type=None),
}

FORMS = {
    f"{api}, {name}": ask(structured_outputs=form)
    for api, ask in (("chat", chat), ("completion", completion), ("response", response))
    for name, form in {
        "number for the form": 5,
        "list for the form": ["regex"],
        "grammar without end": {"grammar": "root ::= root"},
        "schema without end": {"json": {"$ref": "#"}},
        "long regex": {"regex": "[^x]*" * 1000},
        "regex that matches nothing": {"regex": r"[^\s\S]"},
    }.items()
} | {
    "chat, response format without end": chat(response_format=schema({"$ref": "#"})),
    "completion, response format without end": completion(response_format=schema({"$ref": "#"})),
    "response, text format without end": response(text=flat_schema({"$ref": "#"})),
}
"""Answers of a form that cannot be."""

MODELS = {
    "models": Case("/v1/models", method="GET", content_type=None),
    "one model": Case(f"/v1/models/{MODEL.name}", method="GET", content_type=None),
}

OURS = {
    "chat, options of ours": chat(headstart={"timing": True}),
    "chat, options of ours, streamed": chat(headstart={"timing": True}, stream=True),
    "chat, unknown option of ours": chat(headstart={"speed": 11}),
    "chat, over our limit": Case(CHAT, b" " * GatewaySettings().max_body_bytes + chat().body),
    "chat, nested without end": Case(CHAT, b'{"messages": ' + b"[" * 100_000),
}

REFUSED_STREAMS = {
    f"{name}, streamed": Case(
        case.path, json.dumps(json.loads(case.body) | {"stream": True}).encode()
    )
    for name, case in BAD.items()
    if case.path in (CHAT, COMPLETIONS, RESPONSES)
    and name.endswith(
        ("unknown model", "context overflow", "no tokens", "bad schema", "n of 0", "empty messages")
    )
}

CASES: dict[str, Case] = GOOD | STREAMED | OPTIONS | BAD | REFUSED_STREAMS | FORMS | MODELS | OURS
"""By a name that says what is asked."""

_SHAPE = "what is refused before an engine is asked has OpenAI's error object, not FastAPI's"

WANTED: dict[str, str] = {
    "no such route": _SHAPE,
    "images": _SHAPE,
    "chat by GET": _SHAPE,
    "one model": "OpenAI's clients ask for it, and vLLM's app lacks the route",
    "chat, options of ours": "they are ours; vLLM ignores the field",
    "chat, options of ours, streamed": "they are ours; vLLM ignores the field",
    "chat, unknown option of ours": "a typing error in them would go unnoticed",
    "chat, over our limit": "`gateway.max_body_bytes`; vLLM has no limit",
    "chat, nested without end": "the gateway reads the body first, and says what is wrong",
    "embeddings": _SHAPE,
    **{f"{path}: not UTF-8": _SHAPE for path in (CHAT, COMPLETIONS, RESPONSES, TOKENIZE)},
    **dict.fromkeys(FORMS, "the client's fault, and named: vLLM answers 500, or names no field"),
    "response, bad schema, streamed": "vLLM breaks the connection; ours ends with an error event",
}
"""Where we answer otherwise on purpose, and why."""

AT_ONCE = {
    *("chat, two choices, streamed", "completion, two choices, streamed"),
    *("completion, several prompts, streamed", "completion, lists of token ids, streamed"),
}
"""Streams of several answers."""

FEW = (
    *("chat", "chat, several turns", "chat, stop", "chat, seed", "chat, min_p", "chat, usage"),
    *("chat, logit_bias", "chat, logprobs", "chat, JSON schema", "chat, tool required"),
    *("chat, tool required, streamed", "chat, streamed", "chat, two choices"),
    *("chat, logprobs, streamed", "completion", "completion, streamed", "response"),
    *("completion, echo with logprobs", "response, streamed", "response, tool, streamed"),
    *("response, JSON schema", "tokenize", "detokenize", "embeddings", "chat, bad schema"),
    *("response that is not kept", "chat, empty messages", "chat, number for the model"),
    *("chat, context overflow", "response, no input", "/v1/chat/completions: a list"),
    *("chat, unknown model", "chat, no content type", "/v1/responses: malformed"),
)
"""Names of the cases that every run of the tests tries."""
