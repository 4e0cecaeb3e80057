"""Reads Parquet files with pyarrow and DuckDB, until the process that holds the other end of its standard input is
gone. Arguments: the port, and the folder of this engine. POST /pyarrow answers the types and rows of the file that
is its body. POST /duckdb?sql=… answers a query of the table `file`, or of files that the query names if the body is
empty. POST /python answers what the program that is its body prints. Times are milliseconds since 1970."""

import contextlib
import datetime
import http.server
import io
import json
import os
import shutil
import sys
import tempfile
import threading
import urllib.parse

import duckdb
import pyarrow.parquet

PORT, FOLDER = int(sys.argv[1]), sys.argv[2]


def hold():
    """Waits for the end of standard input, which is the end of the test binary however it went."""
    while sys.stdin.buffer.read(1):
        pass  # nothing is ever sent
    shutil.rmtree(FOLDER, ignore_errors=True)
    os._exit(1)


def plain(value):
    """Returns a value as JSON has it."""
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    raise TypeError(f"{type(value)} is not a value of a table")


def by_pyarrow(path, _):
    table = pyarrow.parquet.read_table(path, page_checksum_verification=True)
    return {"types": {f.name: str(f.type) for f in table.schema}, "rows": [list(row.values()) for row in table.to_pylist()]}


def by_duckdb(path, query):
    with duckdb.connect() as database:
        if os.path.getsize(path) > 0:
            database.execute("CREATE VIEW file AS SELECT * FROM read_parquet('" + path + "')")
        result = database.execute(query["sql"][0])
        return {"types": {c[0]: str(c[1]) for c in result.description}, "rows": result.fetchall()}


def by_python(path, _):
    output = io.StringIO()
    with open(path, encoding="utf-8") as program, contextlib.redirect_stdout(output):
        exec(compile(program.read(), "program", "exec"), {})
    return {"output": output.getvalue()}


READERS = {"/pyarrow": by_pyarrow, "/duckdb": by_duckdb, "/python": by_python}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        address = urllib.parse.urlsplit(self.path)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with tempfile.NamedTemporaryFile(dir=FOLDER, suffix=".parquet") as file:
            file.write(content)
            file.flush()
            try:
                answer, status = READERS[address.path](file.name, urllib.parse.parse_qs(address.query)), 200
            except Exception as error:  # the test shows it
                answer, status = repr(error), 422
        body = json.dumps(answer, default=plain, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
threading.Thread(target=hold, daemon=True).start()
print("READY", flush=True)
server.serve_forever()
