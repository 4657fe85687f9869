#!/usr/bin/env python3
"""Stands in for the command `vllm` in tests: serves what the engine uses, by rules that can be worked out by hand.

A reply is the last three tokens of the prompt, upside down (under an adapter: the first three), then the first stop
token; an echoed token's log-probability is -token/1000. It writes its command line and environment to $FAKE_VLLM_NOTES.
"""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("verb")
parser.add_argument("model")
parser.add_argument("--port", type=int)
parser.add_argument("--host")
parser.add_argument("--served-model-name")
parser.add_argument("--enable-lora", action="store_true")
ARGS, MORE = parser.parse_known_args()
NAMES = [ARGS.served_model_name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args): ...

    def send(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        known = {"/health": {}, "/v1/models": {"data": [{"id": name} for name in NAMES]}}
        self.send(200 if self.path in known else 404, known.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            return self.send(401, {"error": "Unauthorized"})
        if self.path == "/v1/load_lora_adapter":
            known = ARGS.enable_lora and Path(body["lora_path"], "adapter_config.json").exists()
            NAMES.extend([body["lora_name"]] if known else [])
            return self.send(200 if known else 400, {"said": "loaded" if known else "LoRA is not enabled"})
        if body["model"] not in NAMES:
            return self.send(404, {"error": f"no model {body['model']}"})
        ids = body["prompt"]
        return self.send(200, self.echo(ids) if body.get("echo") else self.reply(body, ids))

    def echo(self, ids):
        logps = [None, *(-token / 1000 for token in ids[1:]), -0.5]
        return {"choices": [{"text": "", "logprobs": {"token_logprobs": logps}, "finish_reason": "length"}]}

    def reply(self, body, ids):
        new = (ids[:3] if body["model"] != NAMES[0] else ids[:-4:-1]) + body.get("stop_token_ids", [1])[:1]
        cut = new[: body["max_tokens"]]
        choice = {
            "text": " ".join(["?", *map(str, cut)]),
            "token_ids": cut,
            "finish_reason": "stop" if cut == new else "length",
        }
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": len(cut)}}


with open(os.environ["FAKE_VLLM_NOTES"], "a") as notes:
    kept = {name: os.environ.get(name) for name in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")}
    notes.write(json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), **kept}) + "\n")
if ARGS.model == "broken":
    print("ValueError: this model has no weights", file=sys.stderr)
    sys.exit(1)
ThreadingHTTPServer((ARGS.host, ARGS.port), Handler).serve_forever()
