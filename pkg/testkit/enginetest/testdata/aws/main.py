"""Runs ministack in memory, until it is told to end or the process that holds the other end of its standard
input is gone. Arguments: the port, and the folder of this engine."""

import os
import shutil
import socket
import sys
import threading
import time

PORT, FOLDER = sys.argv[1], sys.argv[2]


def hold():
    """Waits for the end of standard input, which is the end of the test binary however it went."""
    while sys.stdin.buffer.read(1):
        pass  # nothing is ever sent
    shutil.rmtree(FOLDER, ignore_errors=True)
    os._exit(1)


def announce():
    """Prints READY once the server takes connections."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(PORT))).close()
            break
        except OSError:
            time.sleep(0.02)
    print("READY", flush=True)


threading.Thread(target=hold, daemon=True).start()
threading.Thread(target=announce, daemon=True).start()
os.environ.update(
    GATEWAY_PORT=PORT,
    BIND_HOST="127.0.0.1",
    MINISTACK_HOST="127.0.0.1",
    MINISTACK_REGION=os.environ["AWS_REGION"],
    AUTH="true",
    IOT_MTLS_ENABLED="0",  # otherwise an MQTT listener opens on all addresses
    LOG_LEVEL="WARNING",
    S3_DATA_DIR=FOLDER,
    STATE_DIR=FOLDER,
    TMPDIR=FOLDER,
)
sys.argv = sys.argv[:1]

from ministack.app import main  # noqa: E402, it reads the variables above

main()
