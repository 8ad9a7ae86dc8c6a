"""A receiver of OTLP over HTTP: decodes exports with OpenTelemetry's own classes and prints each as a line of JSON.

Usage: otlp.py STATUS... : the first exports are answered with these statuses, or `partial` (one span is rejected), later ones
with 200. A 503 has `retry-after: 1`.
"""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

answers = sys.argv[1:]


def value(any_value):
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(each) for each in any_value.array_value.values]
    return getattr(any_value, kind)


def attributes(pairs):
    assert len({pair.key for pair in pairs}) == len(pairs), "keys are unique"
    return {pair.key: value(pair.value) for pair in pairs}


def span(message, resource):
    return {
        "trace_id": message.trace_id.hex(),
        "span_id": message.span_id.hex(),
        "parent": message.parent_span_id.hex(),
        "trace_state": message.trace_state,
        "name": message.name,
        "kind": MessageToDict(message).get("kind"),
        "start": message.start_time_unix_nano,
        "end": message.end_time_unix_nano,
        "status": message.status.code,
        "flags": message.flags,
        "attributes": attributes(message.attributes),
        "resource": attributes(resource.attributes),
    }


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        spans = [
            span(message, of_resource.resource)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for message in of_scope.spans
        ]
        answer = answers.pop(0) if answers else "200"
        headers = {name.lower(): text for name, text in self.headers.items()}
        print(json.dumps({"path": self.path, "headers": headers, "answer": answer, "body": body.hex(), "spans": spans}), flush=True)
        response = ExportTraceServiceResponse()
        if answer == "partial":
            response.partial_success.rejected_spans = 1
            response.partial_success.error_message = "one span is too old"
        content = response.SerializeToString()
        self.send_response(200 if answer == "partial" else int(answer))
        if answer == "503":
            self.send_header("retry-after", "1")
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
